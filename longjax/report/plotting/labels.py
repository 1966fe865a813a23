"""Names in pictures, beside what they name, where nothing else is written."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]  # left, low, right, high


def name_ends(ax: Any, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Writes each curve's name right of its end (name, colour, x, y), pushed apart until none overlap."""
    ends = sorted(ends, key=lambda end: end[3])
    at = ax.transAxes.inverted().transform(ax.transData.transform([end[2:] for end in ends]))
    places = spread([v for _, v in at], 0.05)
    for (name, colour, *_), point, place in zip(ends, at, places, strict=True):
        ax.annotate(
            name, tuple(point), (1.07, place), "axes fraction", "axes fraction", color=colour, fontsize=8, va="center",
            annotation_clip=False, arrowprops=leader(colour) | {"relpos": (0.0, 0.5)},
        )  # fmt: skip


def leader(colour: str) -> dict[str, Any]:
    """The thin line from a point to its name."""
    return {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}


def spread(y: Sequence[float], gap: float) -> list[float]:
    """-> the sorted places, moved up, and then down from 1, until neighbours are `gap` apart."""
    places: list[float] = []
    for v in y:
        places.append(max(v, places[-1] + gap) if places else v)
    limit = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit)
        limit = places[i] - gap
    return places


def name_points(ax: Any, points: Sequence[tuple[str, str, float, float]]) -> None:
    """Names each point (name, colour, x, y) beside it, where neither a point nor a name is yet."""
    ax.figure.canvas.draw()
    at = ax.transData.transform([point[2:] for point in points]) * 72 / ax.figure.dpi  # in typographic points
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in at]
    edges = tuple(x * 72 / ax.figure.dpi for x in (ax.bbox.x0, ax.bbox.y0, ax.bbox.x1, ax.bbox.y1))
    for (name, colour, *point), (x, y) in zip(points, at, strict=True):
        left, low, _, high = box = free_box(x, y, 4.8 * len(name), taken, edges)
        taken.append(box)
        ax.annotate(
            name, point, (left - x, (low + high) / 2 - y), textcoords="offset points", fontsize=7.5, va="center",
            color=colour, arrowprops=leader(colour) | {"relpos": (float(left < x), 0.5)},
        )  # fmt: skip


def free_box(x: float, y: float, width: float, taken: Sequence[Box], edges: Box) -> Box:
    """-> the nearest place for a line of text that overlaps nothing and stays between the edges."""
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
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
