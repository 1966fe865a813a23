"""Figures of evaluations: perplexity, heat maps, many-shot curves, loss by position, perplexity against scores."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from longjax.evals.requests import Record
from longjax.report.aggregates import RULER_TASKS
from longjax.report.evaluation.benchmark_tables import rows_of_suite
from longjax.report.evaluation.table_1 import entries, main_length
from longjax.report.plotting import curves
from longjax.report.plotting.heat_maps import HeatMap, HeatScale, heat_maps
from longjax.report.plotting.panels import Curve, Marks
from longjax.report.plotting.scatter import Point, perplexity_scatter
from longjax.report.plotting.style import draw
from longjax.report.rows import Evaluations, Number, ReportSubject
from longjax.report.stats.correlation import pearson, spearman

Figure = tuple[str, str, Callable[[], Any]]  # file name, title, what draws it
Lines = dict[ReportSubject, dict[Any, Number]]
Points = dict[str, list[Point]]  # by score: perplexity and per cent


def write_figures(evals: Evaluations, folder: pathlib.Path) -> dict[str, str]:
    """Write the figures that the rows allow. Returns titles by file name."""
    titles = {}
    parts = (
        perplexity_figures, needle_figures, passkey_figures, manyshot_figures, position_figures, against_scores,
        ruler_figures,
    )  # fmt: skip
    for part in parts:
        for name, title, make_figure in part(evals):
            draw(folder / name, make_figure)
            titles[name] = title
    return titles


def perplexity_figures(evals: Evaluations) -> Iterator[Figure]:
    """Table 2 of arXiv:2409.12181 as curves, for suites of two lengths or more."""
    for suite in evals.suites("perplexity"):
        lines = rows_of_suite(evals, suite, lambda r: r["length"], task="perplexity")
        shown = [_curve(who, {n: x for n, x in line.items() if x.value is not None}) for who, line in lines.items()]
        shown = [curve for curve in shown if curve.x]
        if len({x for curve in shown for x in curve.x}) > 1:
            title = f"Perplexity by length: {suite.title}"
            yield (
                f"{suite.file}.png", title, lambda shown=shown: curves.perplexity_by_length(shown, marks(evals)),
            )  # fmt: skip


def _curve(who: ReportSubject, numbers: dict[Any, Number]) -> Curve:
    x = sorted(numbers)
    return Curve(who.label, who.kind, [float(n) for n in x], [float(numbers[n].value or 0.0) for n in x])


def marks(evals: Evaluations) -> Marks:
    """Return the marks at the trained and the extended length."""
    return Marks(evals.trained, evals.extended)


def needle_figures(evals: Evaluations) -> Iterator[Figure]:
    """Figure 1 of arXiv:2409.12181, by our score and by its own."""
    for suite in evals.suites("needle"):
        for field, label in (("value", "share of facts found"), ("word_overlap", "word overlap")):
            lines = rows_of_suite(evals, suite, lambda r: (r["length"], r["depth"]), field)
            name = suite.file if field == "value" else f"{suite.file}_overlap"
            if lines:
                title = f"Figure 1: {suite.title}, {label}"
                yield f"{name}.png", title, lambda lines=lines, label=label: by_depth(evals, lines, label)


def passkey_figures(evals: Evaluations) -> Iterator[Figure]:
    """Heat maps of pass keys by depth and length."""
    for suite in evals.suites("passkey"):
        lines = rows_of_suite(evals, suite, lambda r: (r["length"], r["depth"]))
        lines = {who: {key: x for key, x in line.items() if key[1] is not None} for who, line in lines.items()}
        if all(lines.values()):  # some variants draw a depth for every key
            title = f"Pass keys by depth and length: {suite.title}"
            yield f"{suite.file}.png", title, lambda lines=lines: by_depth(evals, lines, "share of keys retrieved")


def by_depth(evals: Evaluations, lines: Lines, label: str) -> Any:
    """Return the heat maps of shares by depth and length; `lines`: numbers by (length, depth)."""
    lengths, depths = ({key[i] for numbers in lines.values() for key in numbers} for i in (0, 1))
    lengths, depths = sorted(lengths), sorted(depths)
    percent = 100 if max(depths) <= 1 else 1  # depths are shares, or the per cent of the needle's grid
    scale = HeatScale(lengths, [f"{percent * d:.0f}%" for d in depths], "depth", label, _length_lines(evals))
    return _heat_maps(lines, scale, depths)


def _length_lines(evals: Evaluations) -> list[tuple[int, Any]]:
    """-> dotted at the base's context, dashed at the length of the training."""
    return [(n, style) for n, style in ((evals.trained, ":"), (evals.extended, "--")) if n is not None]


def _heat_maps(lines: Lines, scale: HeatScale, rows: Sequence[Any]) -> Any:
    maps = [HeatMap(who.label, who.kind, _cells(x, scale.columns, rows)) for who, x in lines.items()]
    return heat_maps(maps, scale)


def _cells(numbers: dict[Any, Number], lengths: Sequence[int], rows: Sequence[Any]) -> np.ndarray:
    """-> numbers by row and length; NaN: not measured."""
    missing = Number(None)
    values = [[numbers.get((n, row), missing).value for n in lengths] for row in rows]
    return np.array([[np.nan if x is None else x for x in line] for line in values], float)


def ruler_figures(evals: Evaluations) -> Iterator[Figure]:
    """Heat maps of RULER by task and length."""
    for suite in evals.suites("ruler"):
        lines = rows_of_suite(evals, suite, lambda r: (r["length"], r["task"]))
        title = f"RULER by task and length: {suite.title}"
        yield f"{suite.file}.png", title, lambda lines=lines: by_task(evals, lines)


def by_task(evals: Evaluations, lines: Lines) -> Any:
    """Return the heat maps of scores by task and length; `lines`: numbers by (length, task)."""
    lengths = sorted({n for numbers in lines.values() for n, _ in numbers})
    tasks = [task for task in RULER_TASKS if any((n, task) in x for x in lines.values() for n in lengths)]
    return _heat_maps(lines, HeatScale(lengths, tasks, "", "score", _length_lines(evals)), tasks)


def manyshot_figures(evals: Evaluations) -> Iterator[Figure]:
    """Figure 2 of arXiv:2409.12181, with standard errors."""
    for suite in evals.suites("manyshot"):
        shown = []
        for who, numbers in rows_of_suite(evals, suite, lambda r: r["shots"]).items():
            shots = sorted(numbers)
            values, errors = ([100 * (getattr(numbers[n], f) or 0.0) for n in shots] for f in ("value", "stderr"))
            shown.append(Curve(who.label, who.kind, [float(n) for n in shots], values, errors))
        yield f"{suite.file}.png", "Figure 2: many-shot TREC", lambda shown=shown: curves.accuracy_by_shots(shown)


def position_figures(evals: Evaluations) -> Iterator[Figure]:
    """Figure 3 of arXiv:2409.12181: a point a bucket of positions, at the longest length of a suite."""
    for suite in evals.suites("perplexity"):
        lines = evals.select(suite, "position_nll")
        longest = max((r["length"] for rows in lines.values() for r in rows), default=0)
        shown = [curve for who, rows in lines.items() if (curve := _position_curve(who, rows, longest)).x]
        if shown:
            title = f"Figure 3: loss by position in windows of {longest} tokens, {suite.title}"
            name = f"positions_{suite.file}.png"
            yield name, title, lambda shown=shown: curves.loss_by_position(shown, marks(evals))


def _position_curve(who: ReportSubject, rows: Sequence[Record], length: int) -> Curve:
    points = sorted((r["position"], r["value"]) for r in rows if r["length"] == length and r["value"] is not None)
    return Curve(who.label, who.kind, [p for p, _ in points], [v for _, v in points])


def against_scores(evals: Evaluations) -> Iterator[Figure]:
    """Figure 4 of arXiv:2409.12181: a panel a benchmark, where four methods or more have both numbers."""
    points = score_points(evals)
    if points:
        title = "Figure 4: perplexity against scores; Spearman's rho, and Pearson's r with the loss, 95 % intervals"
        yield "against_scores.png", title, lambda: scatters(points, main_length(evals))


def score_points(evals: Evaluations) -> Points:
    """Return perplexity and score of each method, by column of Table 1."""
    columns = entries(evals, main_length(evals))
    values = {c: {who: e.number(rows) for who, rows in evals.select(e.suite).items()} for c, e in columns.items()}
    by_column: Points = {}
    for column in [c for c in values if c != "PPL" and "PPL" in values]:
        pairs = [(who, values["PPL"].get(who), x) for who, x in values[column].items()]
        points = [
            Point(who.label, who.kind, p.value, 100 * x.value)
            for who, p, x in pairs
            if p is not None and p.value is not None and x is not None and x.value is not None
        ]
        by_column |= {column: points} if len(points) >= 4 else {}
    return by_column


def scatters(points: Points, length: int | None) -> Any:
    """Return the figure of scores over perplexity at `length` tokens, a panel a score."""
    columns = min(2, len(points))
    count = -(-len(points) // columns)
    figure, axes = plt.subplots(count, columns, figsize=(5.0 * columns, 3.7 * count), squeeze=False)
    figure.subplots_adjust(hspace=0.42, wspace=0.24)
    for ax, (column, shown) in zip(axes.flat, points.items(), strict=False):
        values = [p.y for p in shown]
        room = 0.12 * max(max(values) - min(values), 5)
        perplexity_scatter(ax, shown, (min(values) - room, max(values) + room))
        ax.set(xlabel=f"perplexity at {length}", ylabel=f"{column} (%)")
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.set_title(agreement(column, shown), fontsize=8.5)
    for ax in axes.flat[len(points) :]:
        ax.axis("off")
    handles = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    top = 0.88 + 0.5 / figure.get_figheight()  # above titles of two lines
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, top), "ncols": len(handles), "fontsize": 8}
    figure.legend(list(handles.values()), list(handles), **place)
    return figure


def agreement(column: str, points: Sequence[Point]) -> str:
    """Return a title: the number of methods, and how far perplexity and the score agree."""
    x, y = np.log([p.x for p in points]), np.array([p.y for p in points])
    rho, r = spearman(x, y), pearson(x, y)
    return f"{column}, {len(points)} methods" + (f"\nrho {rho}, r {r}" if rho and r else "")
