"""(e) Does perplexity predict who does well on tasks, for exact and for approximate methods?"""

import pathlib
from collections.abc import Sequence

import numpy as np

from longjax.report import measures
from longjax.report.evaluation.figures import scatters
from longjax.report.measures import Measure
from longjax.report.plotting.scatter import Point
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats.correlation import Correlation, pearson, spearman
from longjax.report.study import recovery
from longjax.report.study.main_table import main_columns
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import draw_figure
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

FAILED = 2.0  # times the lowest perplexity
GROUPS = ("exact", "approximate", "all")
TITLE = "Does perplexity predict who does well on tasks?"
PROTOCOL = """Perplexity is that of held-out text at the length of the training. Each method is one point, the mean
of its seeds; the base, which was not extended, is none. Spearman's rho compares ranks, Pearson's r the score with the
logarithm of perplexity; their 95 % intervals are over resampled methods. A correlation is significant where the
interval leaves out 0 and a permutation test has p < 0.05 (four methods never are). A method that has not recovered, or
whose perplexity has broken down, scores badly on everything, and a few such points make any correlation: the columns
'without failures' leave out methods that have not recovered and those with more than twice the lowest perplexity."""
Scores = list[tuple[str, float, float]]  # arm, perplexity, score


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Correlate perplexity with scores over methods."""
    scores, ppl = task_scores(trials), measures.ppl(trials.extended)
    every = {m.name: points for m in scores if len(points := method_points(trials, ppl, m, "all")) >= 4}
    if not every:
        return Section(TITLE, PROTOCOL, missing=("perplexity and a score of four methods or more",))
    able = {m.name: points for m in scores if len(points := without_failures(trials, ppl, m, "all")) >= 4}
    shown = {
        name: [Point(arm, trials.kind(arm), p, 100 * s) for arm, p, s in points]
        for name, points in (able or every).items()
    }
    caption = f"Perplexity at {trials.extended} against scores, methods without failures."
    figure = draw_figure(folder, "against_scores.png", caption, lambda: scatters(shown, trials.extended))
    tables = (_correlation_table(trials, ppl, scores), *_by_length(trials))
    return Section(TITLE, PROTOCOL, tables, (figure,), correlation_finding(trials, ppl, scores))


def task_scores(trials: Trials) -> list[Measure]:
    """Return the scores at the length of the training that were run; many-shot has no length."""
    wanted = [
        measures.ruler(trials.extended), measures.needle(trials.extended), measures.needle(trials.extended, "number"),
        measures.passkey(trials.extended), measures.manyshot(),
    ]  # fmt: skip
    return [m for m in wanted if any(trials.number(m, arm) for arm in trials.main)]


def group_arms(trials: Trials, group: str) -> list[str]:
    """Return the main arms of a group ("exact", "approximate" or "all") without the base."""
    arms = [arm for arm in trials.main if trials.kind(arm) != "base"]
    return [arm for arm in arms if group == "all" or trials.kind(arm).startswith(group)]


def method_points(trials: Trials, ppl: Measure, score: Measure, group: str) -> Scores:
    """Return the methods of a group that have both numbers."""
    points = [(arm, trials.value(ppl, arm), trials.value(score, arm)) for arm in group_arms(trials, group)]
    return [point for point in points if np.isfinite(point[1:]).all()]


def without_failures(trials: Trials, ppl: Measure, score: Measure, group: str) -> Scores:
    """Return the same without methods that have not recovered or whose perplexity has broken down."""
    limit = FAILED * min((p for _, p, _ in method_points(trials, ppl, score, "all")), default=np.inf)
    failed = recovery.unrecovered(trials)
    return [x for x in method_points(trials, ppl, score, group) if x[1] <= limit and x[0] not in failed]


def coefficients(points: Scores) -> tuple[Correlation | None, Correlation | None]:
    """Return Spearman's rho and Pearson's r with the logarithm of perplexity."""
    x, y = np.log([p for _, p, _ in points]), np.array([s for *_, s in points])
    return spearman(x, y), pearson(x, y)


def _number(x: Correlation | None) -> Number | None:
    return Number(x.value, mark=f"{x.low:+.2f} to {x.high:+.2f}", n=x.n) if x else None


def _correlation_table(trials: Trials, ppl: Measure, scores: Sequence[Measure]) -> Table:
    lines = []
    for score in scores:
        for group in GROUPS:
            every, able = (points(trials, ppl, score, group) for points in (method_points, without_failures))
            count, able_count = (Number(float(len(points))) for points in (every, able))
            numbers = (count, *map(_number, coefficients(every)), able_count, _number(coefficients(able)[0]))
            lines.append((ReportSubject(score.name, "", "", group, f"{score.name}, {group}"), numbers))
    heads = (
        Column("methods", 1.0, 0), Column("Spearman's rho", 1.0, 2), Column("Pearson's r with the log", 1.0, 2),
        Column("methods without failures", 1.0, 0), Column("their rho", 1.0, 2),
    )  # fmt: skip
    note = "-1: the lower the perplexity, the higher the score. -: fewer than four methods, or all alike."
    title = f"Perplexity at {trials.extended} and scores"
    return Table("against_scores", title, heads, tuple(lines), (note,), "score")


def _by_length(trials: Trials) -> list[Table]:
    """-> the same for RULER at each length, with the perplexity of that length."""
    lines = []
    for length in [m.length for m in main_columns(trials) if m.benchmark == "ruler" and m.length]:
        groups = [method_points(trials, measures.ppl(length), measures.ruler(length), group) for group in GROUPS]
        numbers = tuple(_number(coefficients(points)[0]) for points in groups)
        lines.append((ReportSubject(str(length), "", "", "", str(length)), numbers))
    heads = tuple(Column(f"rho, {group}", 1.0, 2) for group in GROUPS)
    title = "Perplexity and RULER at the same length"
    return [Table("against_ruler", title, heads, tuple(lines), (), "length")] if len(lines) > 1 else []


def correlation_finding(trials: Trials, ppl: Measure, scores: Sequence[Measure]) -> str:
    """Return the answer: on how many scores perplexity goes with the score, with failures and without."""
    parts = []
    for group in ("exact", "approximate"):
        every, able = (
            [x for m in scores if (x := coefficients(points(trials, ppl, m, group))[0])]
            for points in (method_points, without_failures)
        )
        negative, still = (sum(x.sign < 0 for x in rhos) for rhos in (every, able))
        failures = _failures(trials, ppl, scores, group)
        rest = f"{still} of {len(able)} without the failures, {join_names(failures)}" if failures else "none has failed"
        parts.append(f"{negative} of {len(every)} scores among {group} methods ({rest})")
    return f"Lower perplexity significantly goes with a higher score on {join_names(parts)}."


def _failures(trials: Trials, ppl: Measure, scores: Sequence[Measure], group: str) -> list[str]:
    every, able = (
        {x[0] for m in scores for x in points(trials, ppl, m, group)} for points in (method_points, without_failures)
    )
    return sorted(every - able)
