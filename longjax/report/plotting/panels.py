"""Curves of many methods: one panel a category, on common axes, each curve named at its end."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from longjax.report.plotting.labels import name_ends
from longjax.report.plotting.style import COLORS, GREY, NUMBER, ticks


@dataclasses.dataclass(frozen=True)
class Curve:
    """The curve of one method; `error`: standard errors, empty where there are none."""

    label: str
    kind: str
    x: list[float]
    y: list[float]
    error: list[float] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Marks:
    """Dotted vertical lines at the trained and the extended length; None: not known."""

    trained: int | None = None
    extended: int | None = None

    def draw(self, ax: Any) -> None:
        low, high = ax.get_xlim()
        for length, text in ((self.trained, "trained"), (self.extended, "extended")):
            if length is not None and low <= length <= high:
                ax.axvline(length, color="#555555", linewidth=0.8, linestyle=(0, (1, 2)))
                style = {"fontsize": 7, "color": "#555555", "va": "top", "ha": "left", "rotation": 90}
                ax.text(length, 0.99, text, transform=ax.get_xaxis_transform(), **style)


def log_panels(curves: Sequence[Curve], marks: Marks, headroom: float) -> tuple[Any, Any]:
    """Draw on log axes that end at `headroom` times the highest first value, so that failures leave at the top.

    Returns:
      the figure and its axes.

    """
    low, high = min(min(c.y) for c in curves), headroom * max(c.y[0] for c in curves)
    figure, axes = _panels(curves, marks, {"yscale": "log", "ylim": (low / 1.04, high)})
    for ax in axes:
        ax.yaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)
    return figure, axes


def percent_panels(curves: Sequence[Curve], marks: Marks) -> tuple[Any, Any]:
    """Draw shares in per cent, on axes from 0 to 100. Returns the figure and its axes."""
    return _panels(curves, marks, {"ylim": (-2, 102)})


def _panels(curves: Sequence[Curve], marks: Marks, limits: dict[str, Any]) -> tuple[Any, Any]:
    """-> figure, its axes. The base is dashed in all panels."""
    kinds = list(dict.fromkeys(c.kind for c in curves if c.kind != "base")) or ["base"]
    columns = len(kinds) if len(kinds) <= 4 else 3
    count = -(-len(kinds) // columns)
    size = (3.7 * columns, 3.9 * count)
    figure, axes = plt.subplots(count, columns, figsize=size, sharey=True, squeeze=False)
    figure.subplots_adjust(wspace=0.68, hspace=0.34)
    for ax in axes.flat[len(kinds) :]:
        ax.axis("off")
    for ax, kind in zip(axes.flat, kinds, strict=False):
        ax.set(xscale="log", title=kind, **limits)
        shown = [c for c in curves if c.kind == kind and kind != "base"] + [c for c in curves if c.kind == "base"]
        ends = [_draw(ax, c, COLORS[i % len(COLORS)]) for i, c in enumerate(shown)]
        ax.patch.set_visible(False)  # names of the panel on the left may reach into this one
        marks.draw(ax)
        ax.xaxis.set(minor_locator=NullLocator(), major_formatter=NUMBER)
        name_ends(ax, ends)
    return figure, axes.flat[: len(kinds)]


def _draw(ax: Any, curve: Curve, color: str) -> tuple[str, str, float, float]:
    """-> name, color and position of its end."""
    color, style = (GREY, "--") if curve.kind == "base" else (color, "-")
    ax.plot(curve.x, curve.y, style, color=color, marker="o" if len(curve.x) < 12 else None, markersize=3)
    if curve.error:
        ax.errorbar(curve.x, curve.y, curve.error, fmt="none", ecolor=color, elinewidth=0.8, capsize=2, alpha=0.7)
    high = ax.get_ylim()[1]
    text = curve.label if curve.y[-1] <= high else f"{curve.label}: {curve.y[-1]:.3g}"
    return text, color, curve.x[-1], float(np.minimum(curve.y[-1], high))
