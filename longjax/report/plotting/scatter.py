"""Perplexity against a score, one labelled point a method."""

from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from longjax.report.plotting.labels import name_points
from longjax.report.plotting.style import KIND_COLOUR, KIND_MARKER, NUMBER, ticks


def scatter_of(ax: Any, points: list[tuple[str, str, float, float]], ylim: tuple[float, float]) -> None:
    """Draws (label, kind, perplexity, per cent) and names them."""
    low, edge = min(p[2] for p in points), 2.5 * float(np.median([p[2] for p in points]))
    far = min(edge, max(p[2] for p in points))
    for kind in dict.fromkeys(p[1] for p in points):
        x, y = zip(*((min(p[2], far), p[3]) for p in points if p[1] == kind), strict=True)
        marker, colour = KIND_MARKER.get(kind, "p"), KIND_COLOUR.get(kind, "black")
        ax.scatter(x, y, s=34, zorder=3, edgecolors="white", linewidths=0.6, marker=marker, color=colour, label=kind)
    room = max((far / low) ** 0.15, 1.02)
    ax.set(xscale="log", xlim=(low / room, far * room), ylim=ylim)
    ax.xaxis.set(major_locator=ticks(low, far), minor_locator=NullLocator(), major_formatter=NUMBER)
    names = [
        (label if x <= far else f"{label}: {x:.3g}", KIND_COLOUR.get(kind, "black"), min(x, far), y)
        for label, kind, x, y in points
    ]
    name_points(ax, names)
