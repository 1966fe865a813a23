"""Names in figures, placed beside what they name without overlaps."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]  # left, low, right, high


def name_ends(ax: Any, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Write each curve's name right of its end (name, color, x, y), pushed apart until none overlap."""
    ends = sorted(ends, key=lambda end: end[3])
    points = ax.transAxes.inverted().transform(ax.transData.transform([end[2:] for end in ends]))
    heights = spread([y for _, y in points], 0.05)
    for (name, color, *_), point, height in zip(ends, points, heights, strict=True):
        ax.annotate(
            name, tuple(point), (1.07, height), "axes fraction", "axes fraction", color=color, fontsize=8, va="center",
            annotation_clip=False, arrowprops=_leader(color) | {"relpos": (0.0, 0.5)},
        )  # fmt: skip


def _leader(color: str) -> dict[str, Any]:
    """The thin line from a point to its name."""
    return {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}


def spread(y: Sequence[float], gap: float) -> list[float]:
    """Return the sorted heights, moved up, and then down from 1, until neighbors are `gap` apart."""
    heights: list[float] = []
    for v in y:
        heights.append(max(v, heights[-1] + gap) if heights else v)
    limit = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], limit)
        limit = heights[i] - gap
    return heights


def name_points(ax: Any, points: Sequence[tuple[str, str, float, float]]) -> None:
    """Write the name of each point (name, color, x, y) beside it, where neither a point nor a name is yet."""
    ax.figure.canvas.draw()
    points_a_pixel = 72 / ax.figure.dpi
    xy = ax.transData.transform([point[2:] for point in points]) * points_a_pixel
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in xy]
    edges = tuple(x * points_a_pixel for x in (ax.bbox.x0, ax.bbox.y0, ax.bbox.x1, ax.bbox.y1))
    for (name, color, *point), (x, y) in zip(points, xy, strict=True):
        left, low, _, high = box = free_box(x, y, 4.8 * len(name), taken, edges)
        taken.append(box)
        ax.annotate(
            name, point, (left - x, (low + high) / 2 - y), textcoords="offset points", fontsize=7.5, va="center",
            color=color, arrowprops=_leader(color) | {"relpos": (float(left < x), 0.5)},
        )  # fmt: skip


def free_box(x: float, y: float, width: float, taken: Sequence[Box], edges: Box) -> Box:
    """Return the nearest box for a line of text that overlaps nothing and stays between the edges."""
    for radius in range(8, 150, 5):
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            dx, dy = radius * np.cos(angle), radius * np.sin(angle)
            left = x + dx - (width if dx < 0 else 0)
            box = (left, y + dy - 4.5, left + width, y + dy + 4.5)
            inside = edges[0] < box[0] and box[2] < edges[2] and edges[1] < box[1] and box[3] < edges[3] + 2
            if inside and not any(overlap(box, other) for other in taken):
                return box
    return (x, y, x + width, y + 9)  # no room at all


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
