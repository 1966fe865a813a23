"""Training curves of several runs: loss, gradient norm and learning rate by step, from their metrics.jsonl."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from longjax.report.plotting.style import COLORS, draw
from longjax.training import metrics_writer

PANELS = {"loss": "loss (nats a token)", "grad_norm": "gradient norm", "learning_rate": "learning rate"}
SHORT = FuncFormatter(lambda x, _: f"{x:.2g}".replace("e-0", "e-"))
Steps = list[dict[str, float]]


def with_metrics(folders: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Return the folders whose log has a step."""
    logs = {folder: folder / metrics_writer.NAME for folder in folders}
    return [folder for folder, log in logs.items() if log.is_file() and log.stat().st_size]


def training_curves(folders: Sequence[pathlib.Path], path: pathlib.Path) -> None:
    """Write a PNG: a panel for each number that a run has, a curve for each run; crosses mark skipped steps.

    Raises:
      ValueError: no run has logged a step.

    """
    runs = {
        name: steps
        for name, folder in zip(run_names(folders), folders, strict=True)
        if (steps := metrics_writer.read_metrics(folder))
    }
    panels = {name: label for name, label in PANELS.items() if any(name in step for s in runs.values() for step in s)}
    if not panels:
        raise ValueError(f"{', '.join(map(str, folders))}: no step has been logged yet")
    draw(path, lambda: _figure(runs, panels))


def _figure(runs: dict[str, Steps], panels: dict[str, str]) -> Any:
    heights = [2.4 if name == "loss" else 1.0 for name in panels]
    size = (7.2, 1.2 + 1.15 * sum(heights))
    figure, axes = plt.subplots(len(panels), 1, sharex=True, squeeze=False, figsize=size, height_ratios=heights)
    for ax, (name, label) in zip(axes[:, 0], panels.items(), strict=True):
        for (run, steps), color in zip(runs.items(), COLORS * len(runs), strict=False):
            _curve(ax, steps, name, color, run)
        ax.set_ylabel(label)
    _finish(figure, list(axes[:, 0]), list(panels))
    return figure


def run_names(folders: Sequence[pathlib.Path]) -> list[str]:
    """Return what differs between the folders' paths; of one folder, its name."""
    parts = [folder.absolute().parts for folder in folders]
    if len(parts) == 1:
        return [parts[0][-1]]
    front = next((i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), 0)
    tails = [list(p[front:]) for p in parts]
    while all(len(tail) > 1 for tail in tails) and len({tail[-1] for tail in tails}) == 1:
        tails = [tail[:-1] for tail in tails]
    return ["/".join(tail) for tail in tails]


def _curve(ax: Any, steps: Steps, name: str, color: str, run: str) -> None:
    """Raw values, pale, under their mean over a fiftieth of the run; the learning rate as it is."""
    x, y = (np.array([step.get(key, np.nan) for step in steps], float) for key in ("step", name))
    if name == "learning_rate":
        ax.plot(x, y, color=color, alpha=0.9)
        return
    skipped = skipped_steps(steps)
    mean = running_mean(np.where(skipped, np.nan, y), max(1, len(y) // 50))
    ax.plot(x, np.where(skipped, np.nan, y), color=color, linewidth=0.6, alpha=0.25)
    ax.plot(x, mean, color=color, label=run)
    if name == "loss":
        ax.plot(x[skipped], mean[skipped], "x", color=color, markersize=7, markeredgewidth=1.8, zorder=3)


def skipped_steps(steps: Steps) -> np.ndarray:
    """Return for each step whether its update was skipped, that is, whether the counter `skipped` has risen."""
    counts = np.array([step.get("skipped", 0.0) for step in steps], float)
    return np.diff(counts, prepend=0.0) > 0


def running_mean(y: np.ndarray, width: int) -> np.ndarray:
    """Return the means of the last `width` values, without those that are not finite."""
    finite = np.isfinite(y)
    total, count = (np.cumsum(np.concatenate([np.zeros(width), z])) for z in (np.where(finite, y, 0.0), finite))
    weight = count[width:] - count[:-width]
    return np.where(weight > 0, (total[width:] - total[:-width]) / np.maximum(weight, 1), np.nan)


def _finish(figure: Any, axes: Sequence[Any], panels: Sequence[str]) -> None:
    for ax, name in zip(axes, panels, strict=True):
        if name == "grad_norm":
            ax.set_yscale("log")
            low, high = ax.get_ylim()
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,), numticks=5))
            ax.yaxis.set(major_formatter=SHORT, minor_formatter=NullFormatter())
        else:
            ax.yaxis.set_major_locator(MaxNLocator(6 if name == "loss" else 3))
        if name == "learning_rate":
            ax.yaxis.set_major_formatter(SHORT)
            ax.set_ylim(bottom=0)
        ax.margins(x=0.01)
        ax.spines[:].set_color("#999999")
        ax.tick_params(color="#999999", which="both", labelcolor="#333333")
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, ncols=min(len(labels), 6))
    figure.align_ylabels(axes)
    figure.subplots_adjust(hspace=0.12)
