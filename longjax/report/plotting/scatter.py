"""Scatter plots with one labeled point a method."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import NullLocator

from longjax.report.plotting.labels import name_points
from longjax.report.plotting.style import KIND_COLOR, KIND_MARKER, NUMBER, ticks


class Point(NamedTuple):
    """A method in a scatter plot, in the units of the axes."""

    label: str
    kind: str
    x: float
    y: float


def draw_points(ax: Any, points: Sequence[Point], size: float = 34) -> None:
    """Draw the points, one marker and color a kind, with a legend entry for each."""
    for kind in dict.fromkeys(p.kind for p in points):
        x, y = zip(*((p.x, p.y) for p in points if p.kind == kind), strict=True)
        marker, color = KIND_MARKER.get(kind, "p"), KIND_COLOR.get(kind, "black")
        ax.scatter(x, y, s=size, zorder=3, edgecolors="white", linewidths=0.6, marker=marker, color=color, label=kind)


def label_points(ax: Any, points: Sequence[Point]) -> None:
    """Write the labels in the colors of the kinds."""
    name_points(ax, [(p.label, KIND_COLOR.get(p.kind, "black"), p.x, p.y) for p in points])


def perplexity_scatter(ax: Any, points: Sequence[Point], ylim: tuple[float, float]) -> None:
    """Draw scores over perplexity; points beyond 2.5 times the median stand at the right edge with their number."""
    low, edge = min(p.x for p in points), 2.5 * float(np.median([p.x for p in points]))
    far = min(edge, max(p.x for p in points))
    draw_points(ax, [p._replace(x=min(p.x, far)) for p in points])
    room = max((far / low) ** 0.15, 1.02)
    ax.set(xscale="log", xlim=(low / room, far * room), ylim=ylim)
    ax.xaxis.set(major_locator=ticks(low, far), minor_locator=NullLocator(), major_formatter=NUMBER)
    label_points(
        ax, [p._replace(label=p.label if p.x <= far else f"{p.label}: {p.x:.3g}", x=min(p.x, far)) for p in points]
    )
