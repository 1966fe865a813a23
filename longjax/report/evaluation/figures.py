"""The study's figures: needle heat maps, many-shot curves, loss by position, perplexity against scores; and RULER."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator

from longjax.report.aggregates import RULER_TASKS
from longjax.report.evaluation.benchmark_tables import rows_of_suite
from longjax.report.evaluation.table_1 import entries, main_length
from longjax.report.plotting.heat_maps import HeatScale, Map, heat_maps
from longjax.report.plotting.panels import Curve, Marks, log_panels, percent_panels
from longjax.report.plotting.scatter import scatter_of
from longjax.report.plotting.style import STYLE, save
from longjax.report.rows import Evaluations, Number, ReportSubject
from longjax.report.stats.correlation import pearson, spearman

Figure = tuple[str, str, Callable[[], Any]]  # file name, title, what draws it
Lines = dict[ReportSubject, dict[Any, Number]]


def draw(all_of: Evaluations, folder: pathlib.Path) -> dict[str, str]:
    """Writes the figures that the rows allow. -> file name: title."""
    written = {}
    for part in (needle_figures, passkey_figures, manyshot_figures, position_figures, against_scores, ruler_figures):
        for name, title, picture in part(all_of):
            with mpl.rc_context(STYLE):
                save(picture(), folder / name)
            written[name] = title
    return written


def needle_figures(all_of: Evaluations) -> Iterator[Figure]:
    """Figure 1 of the study, by our score and by its own."""
    for suite in all_of.suites("needle"):
        for field, words in (("value", "share of facts found"), ("word_overlap", "word overlap")):
            lines = rows_of_suite(all_of, suite, lambda r: (r["length"], r["depth"]), field)
            name = f"{suite.file}{'_overlap' * (field != 'value')}.png"
            if lines:
                title = f"Figure 1: {suite.title}, {words}"
                yield name, title, lambda lines=lines, words=words: by_depth(all_of, lines, words)


def passkey_figures(all_of: Evaluations) -> Iterator[Figure]:
    for suite in all_of.suites("passkey"):
        lines = rows_of_suite(all_of, suite, lambda r: (r["length"], r["depth"]))
        lines = {who: {key: x for key, x in found.items() if key[1] is not None} for who, found in lines.items()}
        if all(lines.values()):  # some variants draw a depth for every key
            title = f"Pass keys by depth and length: {suite.title}"
            yield f"{suite.file}.png", title, lambda lines=lines: by_depth(all_of, lines, "share of keys said")


def by_depth(all_of: Evaluations, lines: Lines, words: str) -> Any:
    lengths, depths = ({key[i] for numbers in lines.values() for key in numbers} for i in (0, 1))
    lengths, depths = sorted(lengths), sorted(depths)
    percent = 100 if max(depths) <= 1 else 1  # depths are shares, or the per cent of the needle's grid
    scale = HeatScale(lengths, [f"{percent * d:.0f}%" for d in depths], "depth", words, marks(all_of))
    return heat_maps(
        [Map(who.label, who.kind, cells(numbers, lengths, depths)) for who, numbers in lines.items()], scale
    )


def cells(numbers: dict[Any, Number], lengths: list[int], rows: list[Any]) -> np.ndarray:
    """-> numbers by row and length; NaN: not measured."""
    missing = Number(None)
    values = [[numbers.get((n, row), missing).value for n in lengths] for row in rows]
    return np.array([[np.nan if x is None else x for x in line] for line in values], float)


def marks(all_of: Evaluations) -> list[tuple[int, Any]]:
    """-> dotted at the base's context, dashed at the length of the training."""
    lengths = ((all_of.trained, ":"), (all_of.extended, "--"))
    return [(n, style) for n, style in lengths if n is not None]


def ruler_figures(all_of: Evaluations) -> Iterator[Figure]:
    for suite in all_of.suites("ruler"):
        lines = rows_of_suite(all_of, suite, lambda r: (r["length"], r["task"]))
        yield (
            f"{suite.file}.png",
            f"RULER by task and length: {suite.title}",
            lambda lines=lines: by_task(all_of, lines),
        )


def by_task(all_of: Evaluations, lines: Lines) -> Any:
    lengths = sorted({n for numbers in lines.values() for n, _ in numbers})
    tasks = [task for task in RULER_TASKS if any((n, task) in x for x in lines.values() for n in lengths)]
    scale = HeatScale(lengths, tasks, "", "score", marks(all_of))
    return heat_maps([Map(who.label, who.kind, cells(x, lengths, tasks)) for who, x in lines.items()], scale)


def manyshot_figures(all_of: Evaluations) -> Iterator[Figure]:
    """Figure 2 of the study, with standard errors."""
    for suite in all_of.suites("manyshot"):
        curves = [
            Curve(who.label, who.kind, [float(n) for n in sorted(x)], [100 * (x[n].value or 0.0) for n in sorted(x)],
                  [100 * (x[n].stderr or 0.0) for n in sorted(x)])
            for who, x in rows_of_suite(all_of, suite, lambda r: r["shots"]).items()
        ]  # fmt: skip
        yield f"{suite.file}.png", "Figure 2: many-shot TREC", lambda curves=curves: shots(curves)


def shots(curves: list[Curve]) -> Any:
    figure, axes = percent_panels(curves, Marks(None, None))
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator([1, 3, 10, 30, 100, 300, 1000]))
        ax.set_xlabel("examples in the prompt")
    axes[0].set_ylabel("accuracy (%)")
    return figure


def position_figures(all_of: Evaluations) -> Iterator[Figure]:
    """Figure 3 of the study: every point is the mean of a bucket of positions, at the longest length of a suite."""
    for suite in all_of.suites("perplexity"):
        lines = all_of.select(suite, "position_nll")
        longest = max((r["length"] for rows in lines.values() for r in rows), default=0)
        curves = []
        for who, rows in lines.items():
            mine = sorted(
                (r["position"], r["value"]) for r in rows if r["length"] == longest and r["value"] is not None
            )
            curves += [Curve(who.label, who.kind, [p for p, _ in mine], [v for _, v in mine])] * bool(mine)
        if curves:
            title = f"Figure 3: loss by position in windows of {longest} tokens, {suite.title}"
            yield f"positions_{suite.file}.png", title, lambda curves=curves: by_position(all_of, curves)


def by_position(all_of: Evaluations, curves: list[Curve]) -> Any:
    figure, axes = log_panels(curves, Marks(all_of.trained, all_of.extended), most=1.3)
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator([16 * 4**i for i in range(10)]))
        ax.set_xlabel("position in the window (tokens)")
    axes[0].set_ylabel("loss (nats a token)")
    return figure


def against_scores(all_of: Evaluations) -> Iterator[Figure]:
    """Figure 4 of the study: a panel a benchmark, for those in which four methods or more have both numbers."""
    points = score_points(all_of)
    if points:
        title = "Figure 4: perplexity against scores; Spearman's rho, and Pearson's r with the loss, 95 % intervals"
        yield "against_scores.png", title, lambda: scatters(points, main_length(all_of))


Points = dict[str, list[tuple[str, str, float, float]]]  # benchmark: label, kind, perplexity, per cent


def score_points(all_of: Evaluations) -> Points:
    chosen = entries(all_of, main_length(all_of))
    values = {c: {who: e.number(rows) for who, rows in all_of.select(e.suite).items()} for c, e in chosen.items()}
    found: Points = {}
    for column in [c for c in values if c != "PPL" and "PPL" in values]:
        pairs = [(who, values["PPL"].get(who), x) for who, x in values[column].items()]
        points = [
            (who.label, who.kind, p.value, 100 * x.value)
            for who, p, x in pairs
            if p is not None and p.value is not None and x is not None and x.value is not None
        ]
        found |= {column: points} if len(points) >= 4 else {}
    return found


def scatters(points: Points, length: int | None) -> Any:
    columns = min(2, len(points))
    count = -(-len(points) // columns)
    figure, axes = plt.subplots(count, columns, figsize=(5.0 * columns, 3.7 * count), squeeze=False)
    figure.subplots_adjust(hspace=0.42, wspace=0.24)
    for ax, (column, mine) in zip(axes.flat, points.items(), strict=False):
        values = [y for *_, y in mine]
        room = 0.12 * max(max(values) - min(values), 5)
        scatter_of(ax, mine, (min(values) - room, max(values) + room))
        ax.set(xlabel=f"perplexity at {length}", ylabel=f"{column} (%)")
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.set_title(agreement(column, mine), fontsize=8.5)
    for ax in axes.flat[len(points) :]:
        ax.axis("off")
    handles = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.9 + 0.045),
        ncols=len(handles),
        fontsize=8,
    )
    return figure


def agreement(column: str, points: list[tuple[str, str, float, float]]) -> str:
    x, y = np.log([p[2] for p in points]), np.array([p[3] for p in points])
    rho, r = spearman(x, y), pearson(x, y)
    return f"{column}, {len(points)} methods" + (f"\nrho {rho}, r {r}" if rho and r else "")
