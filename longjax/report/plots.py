"""A study in pictures: perplexity by length, loss by position, pass keys by depth and length, and their relation."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from longjax.report.results import KINDS, Result, Study

STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9.5, "lines.linewidth": 1.5,
    "axes.titleweight": "bold", "axes.grid": True, "grid.color": "#e8e8e8", "savefig.dpi": 160, "legend.frameon": False,
}  # fmt: skip
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b5ea7", "#b8860b", "#17a2b8", "#7f3b08", "#111111", "#6b8e23")
GREY = "#8a8a8a"
KIND_COLOUR = dict(zip(KINDS, (GREY, "#0072b2", "#009e73", "#d55e00", "#b8860b"), strict=True))
KIND_MARKER = dict(zip(KINDS, "soD^v", strict=True))
NUMBER = FuncFormatter(lambda x, _: f"{x:g}")
Curve = Callable[[Result], tuple[list[float], list[float]]]


def draw(study: Study, folder: pathlib.Path) -> dict[str, str]:
    """Writes the pictures that the records allow. -> file name: title."""
    pictures = {
        "perplexity.png": ("Perplexity by length", perplexity, any(r.ppl for r in study.results)),
        "positions.png": ("Loss by position", positions, any(r.loss for r in study.results)),
        "passkey.png": ("Pass keys by depth and length", passkey, any(r.keys for r in study.results)),
        "scatter.png": ("Perplexity against pass keys", scatter, bool(_points(study))),
    }
    written = {}
    for name, (title, picture, possible) in pictures.items():
        if possible:
            with mpl.rc_context(STYLE):
                figure = picture(study)
                figure.savefig(folder / name, bbox_inches="tight")
                plt.close(figure)
            written[name] = title
    return written


def perplexity(study: Study) -> Any:
    def curve(r: Result) -> tuple[list[float], list[float]]:
        lengths = [n for n in sorted(r.ppl) if r.ppl[n]["value"] is not None]
        return [float(n) for n in lengths], [r.ppl[n]["value"] for n in lengths]

    figure, axes = panels(study, curve, most=2.0)
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator(sorted({n for r in study.results for n in r.ppl})))
        ax.set_xlabel("context length (tokens)")
    axes[0].set_ylabel("perplexity")
    return figure


def positions(study: Study) -> Any:
    def curve(r: Result) -> tuple[list[float], list[float]]:
        places = sorted(r.loss)
        return places, [r.loss[p]["value"] for p in places]

    figure, axes = panels(study, curve, most=1.3)
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator([16 * 4**i for i in range(10)]))
        ax.set_xlabel("position in the window (tokens)")
    axes[0].set_ylabel("loss (nats a token)")
    return figure


def panels(study: Study, curve: Curve, most: float) -> tuple[Any, Any]:
    """One panel a kind, on common log axes, each curve named at its end; the base is dashed in all.

    The axis ends at `most` times what the worst curve begins with: failures leave the picture at the top.
    """
    drawn = [(r, x, y) for r in study.results for x, y in [curve(r)] if x]
    low, high = min(min(y) for *_, y in drawn), most * max(y[0] for *_, y in drawn)
    kinds = list(dict.fromkeys(r.kind for r, *_ in drawn if r.kind != "base")) or ["base"]
    figure, axes = plt.subplots(1, len(kinds), figsize=(3.7 * len(kinds), 3.9), sharey=True, squeeze=False)
    figure.subplots_adjust(wspace=0.62)
    for ax, kind in zip(axes[0], kinds, strict=True):
        ax.set(xscale="log", yscale="log", title=kind, ylim=(low / 1.04, high))
        mine, ends = [c for c in drawn if c[0].kind == kind and kind != "base"], []
        for i, (r, x, y) in enumerate([*mine, *(c for c in drawn if c[0].kind == "base")]):
            colour, style = (GREY, "--") if r.kind == "base" else (COLOURS[i % len(COLOURS)], "-")
            ax.plot(x, y, style, color=colour, marker="o" if len(x) < 12 else None, markersize=3)
            text = r.method if y[-1] <= high else f"{r.method}: {y[-1]:.3g}"
            ends.append((text, colour, x[-1], min(y[-1], high)))
        ax.patch.set_visible(False)  # names of the panel on the left may reach into this one
        mark_lengths(ax, study)
        ax.yaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)
        ax.xaxis.set(minor_locator=NullLocator(), major_formatter=NUMBER)
        name_ends(ax, ends)
    return figure, axes[0]


def ticks(low: float, high: float) -> FixedLocator:
    """-> round numbers on a log axis, as many as it has room for."""
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high < 6 * low else (1, 2, 5)
    return FixedLocator([m * 10.0**e for e in range(-2, 6) for m in steps])


def mark_lengths(ax: Any, study: Study) -> None:
    for length, text in ((study.trained, "trained"), (study.extended, "extended")):
        ax.axvline(length, color="#555555", linewidth=0.8, linestyle=(0, (1, 2)))
        style = {"fontsize": 7, "color": "#555555", "va": "top", "ha": "left", "rotation": 90}
        ax.text(length, 0.99, text, transform=ax.get_xaxis_transform(), **style)


def name_ends(ax: Any, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Writes each curve's name right of its end, pushed apart until none overlap."""
    ends = sorted(ends, key=lambda end: end[3])
    (left, right), (low, high) = np.log(ax.get_xlim()), np.log(ax.get_ylim())
    x, y = ([np.log(end[i]) for end in ends] for i in (2, 3))
    at = [((u - left) / (right - left), (v - low) / (high - low)) for u, v in zip(x, y, strict=True)]
    places = spread([v for _, v in at], 0.05)
    for (name, colour, *_), point, place in zip(ends, at, places, strict=True):
        ax.annotate(
            name, point, (1.07, place), "axes fraction", "axes fraction", color=colour, fontsize=8, va="center",
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


def passkey(study: Study) -> Any:
    """A heat map a method, all of one scale; the lines mark the trained and the extended length."""
    shown = [r for r in study.results if r.keys]
    columns = min(6, len(shown))
    count = -(-len(shown) // columns)
    figure, axes = plt.subplots(count, columns, figsize=(1.9 * columns, 1.65 * count + 0.3), squeeze=False)
    figure.subplots_adjust(hspace=0.32, wspace=0.12)
    images = [heat_map(ax, r, study) for ax, r in zip(axes.flat, shown, strict=False)]
    for i, ax in enumerate(axes.flat[: len(shown)]):
        ax.tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= len(shown))
        ax.set_ylabel("depth" if i % columns == 0 else "")
        ax.set_xlabel("tokens" if i + columns >= len(shown) else "")
    for ax in axes.flat[len(shown) :]:
        ax.axis("off")
    figure.colorbar(images[0], ax=axes, fraction=0.02, pad=0.015, label="share of keys retrieved")
    for i, kind in enumerate(dict.fromkeys(r.kind for r in shown)):
        figure.text(0.125 + 0.165 * i, 0.955, kind, color=KIND_COLOUR.get(kind, "black"), fontsize=8)
    return figure


def heat_map(ax: Any, r: Result, study: Study) -> Any:
    lengths = sorted(r.keys)
    depths = sorted({depth for cells in r.keys.values() for depth in cells})
    values = np.array([[r.keys[n][d]["value"] if d in r.keys[n] else np.nan for n in lengths] for d in depths])
    image = ax.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=7)
    ax.set_xticks(range(len(lengths)), map(str, lengths), rotation=90)
    ax.set_yticks(range(len(depths)), [f"{100 * d:.0f}%" for d in depths])
    ax.set_title(r.method, fontsize=8.5, color=KIND_COLOUR.get(r.kind, "black"), pad=3)
    for length, style in ((study.trained, ":"), (study.extended, "-")):
        ax.axvline(sum(n <= length for n in lengths) - 0.5, color="white", linewidth=1.4, linestyle=style)
    return image


def scatter(study: Study) -> Any:
    """Who cannot be shown to scale stands at the right edge, the number beside the name."""
    figure, ax = plt.subplots(figsize=(7.2, 4.6))
    points, n = _points(study), study.extended
    low, edge = min(x for _, x, _ in points), 2.5 * float(np.median([x for _, x, _ in points]))
    far = min(edge, max(x for _, x, _ in points))
    for kind in dict.fromkeys(r.kind for r, *_ in points):
        x, y = zip(*((min(x, far), y) for r, x, y in points if r.kind == kind), strict=True)
        marker, colour = KIND_MARKER.get(kind, "p"), KIND_COLOUR.get(kind, "black")
        ax.scatter(x, y, s=34, zorder=3, edgecolors="white", linewidths=0.6, marker=marker, color=colour, label=kind)
    room = max((far / low) ** 0.15, 1.02)
    ax.set(xscale="log", xlim=(low / room, far * room), ylim=(-9, 109))
    ax.set(xlabel=f"perplexity at {n}", ylabel=f"% of pass keys retrieved at {n}")
    ax.xaxis.set(major_locator=ticks(low, far), minor_locator=NullLocator(), major_formatter=NUMBER)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8)
    names = (r.method if x <= far else f"{r.method}: {x:.3g}" for r, x, _ in points)
    colours = (KIND_COLOUR.get(r.kind, "black") for r, *_ in points)
    name_points(ax, [(s, c, min(x, far), y) for s, c, (_, x, y) in zip(names, colours, points, strict=True)])
    return figure


def _points(study: Study) -> list[tuple[Result, float, float]]:
    points = [(r, r.perplexity(study.extended), 100 * r.passkey(study.extended)) for r in study.results]
    return [point for point in points if np.isfinite(point[1:]).all()]


def name_points(ax: Any, points: Sequence[tuple[str, str, float, float]]) -> None:
    """Names each point beside it, where neither a point nor a name is yet."""
    ax.figure.canvas.draw()
    at = ax.transData.transform([point[2:] for point in points]) * 72 / ax.figure.dpi  # in typographic points
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in at]
    for (name, colour, *point), (x, y) in zip(points, at, strict=True):
        left, low, _, high = box = free_box(x, y, 4.8 * len(name), taken, ax.bbox.x1 * 72 / ax.figure.dpi)
        taken.append(box)
        ax.annotate(
            name, point, (left - x, (low + high) / 2 - y), textcoords="offset points", fontsize=7.5, va="center",
            color=colour, arrowprops=leader(colour) | {"relpos": (float(left < x), 0.5)},
        )  # fmt: skip


Box = tuple[float, float, float, float]  # left, low, right, high


def free_box(x: float, y: float, width: float, taken: Sequence[Box], right: float) -> Box:
    """-> the nearest place for a line of text that overlaps nothing and ends before `right`."""
    for radius in range(8, 150, 5):
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            dx, dy = radius * np.cos(angle), radius * np.sin(angle)
            left = x + dx - (width if dx < 0 else 0)
            box = (left, y + dy - 4.5, left + width, y + dy + 4.5)
            if box[2] < right and not any(overlap(box, other) for other in taken):
                return box
    return (x, y, x + width, y + 9)  # no room at all


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
