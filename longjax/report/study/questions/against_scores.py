"""Question e: does perplexity tell who does well on tasks, for exact and for approximate methods?"""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from longjax.report.evaluation.figures import scatters
from longjax.report.plotting.style import STYLE, save
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats.correlation import Correlation, pearson, spearman
from longjax.report.study import measures, recovery
from longjax.report.study.main_table import columns
from longjax.report.study.measures import Measure
from longjax.report.study.questions.base import Section
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

FAILED = 2.0  # times the lowest perplexity
GROUPS = ("exact", "approximate", "all")
PROTOCOL = """Perplexity is that of held-out text at the length of the training. Each method is one point, the mean
of its seeds; the base, which was not extended, is none. Spearman's rho compares ranks, Pearson's r the score with the
logarithm of perplexity; their 95 % intervals are over resampled methods. A correlation is sure where the interval
leaves out 0 and a permutation test has p < 0.05 (four methods never are). A method that has not recovered, or whose
perplexity has broken down, scores badly on everything, and a few such points make any correlation: the columns
'without failures' leave out methods that have not recovered and those with more than twice the lowest perplexity."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    asked = scores(trials)
    ppl = measures.ppl(trials.extended)
    points = {m.name: found for m in asked if len(found := pairs(trials, ppl, m, "all")) >= 4}
    if not points:
        missing = "perplexity and a score of four methods or more"
        return Section(TITLE, PROTOCOL, missing=(missing,))
    with mpl.rc_context(STYLE):
        fit = {m.name: x for m in asked if len(x := able(trials, ppl, m, "all")) >= 4}
        save(picture(trials, fit or points), folder / "against_scores.png")
    table = correlations(trials, ppl, asked)
    return Section(
        TITLE,
        " ".join(PROTOCOL.split()),
        (table, *by_length(trials)),
        (("against_scores.png", f"Perplexity at {trials.extended} against scores, methods without failures."),),
        tuple(findings(trials, ppl, asked)),
    )


TITLE = "Does perplexity tell who does well on tasks?"


def scores(trials: Trials) -> list[Measure]:
    """-> at the length of the training; many-shot has none."""
    wanted = [
        measures.ruler(trials.extended), measures.needle(trials.extended), measures.needle(trials.extended, "number"),
        measures.passkey(trials.extended), measures.manyshot(),
    ]  # fmt: skip
    return [m for m in wanted if any(trials.number(m, arm) for arm in trials.main)]


def group(trials: Trials, name: str) -> list[str]:
    arms = [arm for arm in trials.main if trials.kind(arm) != "base"]
    return [arm for arm in arms if name == "all" or trials.kind(arm).startswith(name)]


def pairs(trials: Trials, ppl: Measure, score: Measure, name: str) -> list[tuple[str, float, float]]:
    """-> arm, perplexity, score, of those that have both."""
    found = [(arm, trials.value(ppl, arm), trials.value(score, arm)) for arm in group(trials, name)]
    return [x for x in found if np.isfinite(x[1:]).all()]


def able(trials: Trials, ppl: Measure, score: Measure, name: str) -> list[tuple[str, float, float]]:
    """-> the same of methods that have recovered, and whose perplexity has not broken down."""
    most = FAILED * min((x[1] for x in pairs(trials, ppl, score, "all")), default=np.inf)
    found = pairs(trials, ppl, score, name)
    return [x for x in found if x[1] <= most and x[0] not in recovery.unrecovered(trials)]


def coefficients(found: Sequence[tuple[str, float, float]]) -> tuple[Correlation | None, Correlation | None]:
    """-> Spearman's, Pearson's."""
    x, y = np.log([p for _, p, _ in found]), np.array([s for *_, s in found])
    return spearman(x, y), pearson(x, y)


def shown(one: Correlation | None) -> Number | None:
    return Number(one.value, mark=f"{one.low:+.2f} to {one.high:+.2f}", n=one.n) if one else None


def correlations(trials: Trials, ppl: Measure, asked: Sequence[Measure]) -> Table:
    lines = []
    for score in asked:
        for name in GROUPS:
            every, fit = pairs(trials, ppl, score, name), able(trials, ppl, score, name)
            numbers = [*map(shown, coefficients(every)), shown(coefficients(fit)[0])]
            counts = [Number(float(len(x))) for x in (every, fit)]
            label = f"{score.name}, {name}"
            lines.append(
                (ReportSubject(score.name, "", "", name, label), (counts[0], *numbers[:2], counts[1], numbers[2]))
            )
    head = (
        Column("methods", 1.0, 0), Column("Spearman's rho", 1.0, 2), Column("Pearson's r with the log", 1.0, 2),
        Column("methods without failures", 1.0, 0), Column("their rho", 1.0, 2),
    )  # fmt: skip
    note = "-1: who has the lower perplexity always has the higher score. -: fewer than four methods, or all alike."
    return Table("against_scores", f"Perplexity at {trials.extended} and scores", head, tuple(lines), (note,), "score")


def by_length(trials: Trials) -> list[Table]:
    """-> the same for RULER at each length, with the perplexity of that length."""
    lengths = [m.length for m in columns(trials) if m.benchmark == "ruler" and m.length]
    lines = []
    for length in lengths:
        parts = [pairs(trials, measures.ppl(length), measures.ruler(length), name) for name in GROUPS]
        numbers = tuple(shown(coefficients(part)[0]) for part in parts)
        lines.append((ReportSubject(str(length), "", "", "", str(length)), numbers))
    head = tuple(Column(f"rho, {name}", 1.0, 2) for name in GROUPS)
    title = "Perplexity and RULER at the same length"
    return [Table("against_ruler", title, head, tuple(lines), (), "length")] if len(lines) > 1 else []


def findings(trials: Trials, ppl: Measure, asked: Sequence[Measure]) -> list[str]:
    """-> the answer: on how many scores, surely; then all coefficients of methods without failures."""
    parts, lines = [], []
    for name in ("exact", "approximate"):
        found, fit = (
            {m.name: x for m in asked if (x := coefficients(select(trials, ppl, m, name))[0])}
            for select in (pairs, able)
        )
        sure, still = ([m for m, x in group.items() if x.sign < 0] for group in (found, fit))
        gone = failures(trials, ppl, asked, name)
        rest = f"{len(still)} of {len(fit)} without the failures, {listed(gone)}" if gone else "none has failed"
        parts.append(f"{len(sure)} of {len(found)} scores among {name} methods ({rest})")
        lines += [
            f"Spearman's rho of {name} methods without failures: {listed(said(m, x) for m, x in fit.items())}."
        ] * bool(fit)
    return [f"Lower perplexity surely goes with a higher score on {listed(parts)}.", *lines]


def failures(trials: Trials, ppl: Measure, asked: Sequence[Measure], group: str) -> list[str]:
    every, fit = ({x[0] for m in asked for x in select(trials, ppl, m, group)} for select in (pairs, able))
    return sorted(every - fit)


def said(name: str, x: Correlation) -> str:
    return f"{name} ({x}, {x.n} methods)"


def picture(trials: Trials, points: dict[str, list[tuple[str, float, float]]]) -> Any:
    shown = {name: [(arm, trials.kind(arm), p, 100 * s) for arm, p, s in found] for name, found in points.items()}
    return scatters(shown, trials.extended)
