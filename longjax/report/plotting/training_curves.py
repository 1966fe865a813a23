"""Training curves of several runs: loss, gradient norm and learning rate by step, from their metrics.jsonl."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from longjax.training import metrics_writer

STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8e8e8",
    "savefig.dpi": 160, "legend.frameon": False, "lines.linewidth": 1.3, "axes.labelcolor": "#333333",
}  # fmt: skip
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b5ea7", "#b8860b", "#17a2b8", "#7f3b08", "#111111", "#6b8e23")
PANELS = {"loss": "loss (nats a token)", "grad_norm": "gradient norm", "learning_rate": "learning rate"}
SHORT = FuncFormatter(lambda x, _: f"{x:.2g}".replace("e-0", "e-"))
Steps = list[dict[str, float]]


def training_curves(folders: Sequence[pathlib.Path], path: pathlib.Path) -> None:
    """Writes a PNG: a panel for each number that a run has, a curve for each run. Crosses mark steps left out."""
    runs = {
        name: steps
        for name, folder in zip(names(folders), folders, strict=True)
        if (steps := metrics_writer.read_metrics(folder))
    }
    panels = {name: label for name, label in PANELS.items() if any(name in step for s in runs.values() for step in s)}
    if not panels:
        raise ValueError(f"{', '.join(map(str, folders))}: no step has been logged yet")
    with mpl.rc_context(STYLE):
        heights = [2.4 if name == "loss" else 1.0 for name in panels]
        size = (7.2, 1.2 + 1.15 * sum(heights))
        figure, axes = plt.subplots(len(panels), 1, sharex=True, squeeze=False, figsize=size, height_ratios=heights)
        for ax, (name, label) in zip(axes[:, 0], panels.items(), strict=True):
            for (run, steps), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
                curve(ax, steps, name, colour, run)
            ax.set_ylabel(label)
        finish(figure, list(axes[:, 0]), list(panels))
        figure.savefig(path, bbox_inches="tight")
        plt.close(figure)


def names(folders: Sequence[pathlib.Path]) -> list[str]:
    """-> what differs between the folders' paths; of one folder, its name."""
    parts = [folder.absolute().parts for folder in folders]
    if len(parts) == 1:
        return [parts[0][-1]]
    front = next((i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), 0)
    tails = [list(p[front:]) for p in parts]
    while all(len(tail) > 1 for tail in tails) and len({tail[-1] for tail in tails}) == 1:
        tails = [tail[:-1] for tail in tails]
    return ["/".join(tail) for tail in tails]


def curve(ax: Any, steps: Steps, name: str, colour: str, run: str) -> None:
    """The numbers as they are, pale, under their mean over a fiftieth of the run; the rate as it is."""
    x, y = (np.array([step.get(key, np.nan) for step in steps], float) for key in ("step", name))
    if name == "learning_rate":
        ax.plot(x, y, color=colour, alpha=0.9)
        return
    out = left_out(steps)
    mean = smooth(np.where(out, np.nan, y), max(1, len(y) // 50))
    ax.plot(x, np.where(out, np.nan, y), color=colour, linewidth=0.6, alpha=0.25)
    ax.plot(x, mean, color=colour, label=run)
    if name == "loss":
        ax.plot(x[out], mean[out], "x", color=colour, markersize=7, markeredgewidth=1.8, zorder=3)


def left_out(steps: Steps) -> np.ndarray:
    """-> for each step, whether it was: the counter `skipped` has risen."""
    counts = np.array([step.get("skipped", 0.0) for step in steps], float)
    return np.diff(counts, prepend=0.0) > 0


def smooth(y: np.ndarray, width: int) -> np.ndarray:
    """-> the mean of the last `width` values, without those that are no number."""
    good = np.isfinite(y)
    total, count = (np.cumsum(np.concatenate([np.zeros(width), z])) for z in (np.where(good, y, 0.0), good))
    weight = count[width:] - count[:-width]
    return np.where(weight > 0, (total[width:] - total[:-width]) / np.maximum(weight, 1), np.nan)


def finish(figure: Any, axes: Sequence[Any], panels: Sequence[str]) -> None:
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
