"""Curves of many methods: a panel a kind, on common axes, each curve named at its end."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from longjax.report.plotting.labels import name_ends
from longjax.report.plotting.style import COLOURS, GREY, NUMBER, ticks


@dataclasses.dataclass(frozen=True)
class Curve:
    """One method's; `error`: standard errors, empty where there are none."""

    label: str
    kind: str
    x: list[float]
    y: list[float]
    error: list[float] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Marks:
    """Dotted lines at two lengths; None: not known."""

    trained: int | None
    extended: int | None

    def draw(self, ax: Any) -> None:
        low, high = ax.get_xlim()
        for length, text in ((self.trained, "trained"), (self.extended, "extended")):
            if length is not None and low <= length <= high:
                ax.axvline(length, color="#555555", linewidth=0.8, linestyle=(0, (1, 2)))
                style = {"fontsize": 7, "color": "#555555", "va": "top", "ha": "left", "rotation": 90}
                ax.text(length, 0.99, text, transform=ax.get_xaxis_transform(), **style)


def log_panels(curves: Sequence[Curve], marks: Marks, most: float, columns: int = 4) -> tuple[Any, Any]:
    """On log axes, which end at `most` times what the worst curve begins with: failures leave it at the top."""
    low, high = min(min(c.y) for c in curves), most * max(c.y[0] for c in curves)
    figure, axes = panels(curves, marks, {"yscale": "log", "ylim": (low / 1.04, high)}, columns)
    for ax in axes:
        ax.yaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)
    return figure, axes


def percent_panels(curves: Sequence[Curve], marks: Marks, columns: int = 4) -> tuple[Any, Any]:
    """Shares in per cent: the y axis ends at 0 and 100."""
    return panels(curves, marks, {"ylim": (-2, 102)}, columns)


def panels(curves: Sequence[Curve], marks: Marks, limits: dict[str, Any], columns: int) -> tuple[Any, Any]:
    """-> figure, its axes: a panel a kind, so many in a line. The base is dashed in all panels."""
    kinds = list(dict.fromkeys(c.kind for c in curves if c.kind != "base")) or ["base"]
    columns = min(columns, len(kinds))
    count = -(-len(kinds) // columns)
    size = (3.7 * columns, 3.9 * count)
    figure, axes = plt.subplots(count, columns, figsize=size, sharey=True, squeeze=False)
    figure.subplots_adjust(wspace=0.68, hspace=0.34)
    for ax in axes.flat[len(kinds) :]:
        ax.axis("off")
    for ax, kind in zip(axes.flat, kinds, strict=False):
        ax.set(xscale="log", title=kind, **limits)
        mine = [c for c in curves if c.kind == kind and kind != "base"] + [c for c in curves if c.kind == "base"]
        ends = [draw(ax, c, COLOURS[i % len(COLOURS)]) for i, c in enumerate(mine)]
        ax.patch.set_visible(False)  # names of the panel on the left may reach into this one
        marks.draw(ax)
        ax.xaxis.set(minor_locator=NullLocator(), major_formatter=NUMBER)
        name_ends(ax, ends)
    return figure, axes.flat[: len(kinds)]


def draw(ax: Any, curve: Curve, colour: str) -> tuple[str, str, float, float]:
    """-> name, colour and place of its end."""
    colour, style = (GREY, "--") if curve.kind == "base" else (colour, "-")
    ax.plot(curve.x, curve.y, style, color=colour, marker="o" if len(curve.x) < 12 else None, markersize=3)
    if curve.error:
        ax.errorbar(curve.x, curve.y, curve.error, fmt="none", ecolor=colour, elinewidth=0.8, capsize=2, alpha=0.7)
    high = ax.get_ylim()[1]
    text = curve.label if curve.y[-1] <= high else f"{curve.label}: {curve.y[-1]:.3g}"
    return text, colour, curve.x[-1], float(np.minimum(curve.y[-1], high))
