"""Question e: does perplexity tell who does well on tasks, for exact and for approximate methods?"""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from longjax.report import measures
from longjax.report.correlation import Correlation, pearson, spearman
from longjax.report.figures import scatters
from longjax.report.measures import Measure
from longjax.report.overall import columns
from longjax.report.questions.section import Section
from longjax.report.rows import Number, Subject
from longjax.report.style import STYLE, save
from longjax.report.tables import Column, Table
from longjax.report.trials import Trials
from longjax.report.wording import listed

FAILED = 2.0  # times the lowest perplexity
GROUPS = ("exact", "approximate", "all")
PROTOCOL = """Perplexity is that of held-out text at the length of the training. Each method is one point, the mean
of its seeds; the base, which was not extended, is none. Spearman's rho compares ranks, Pearson's r the score with the
logarithm of perplexity; their 95 % intervals are over resampled methods. A correlation is sure where the interval
leaves out 0 and a permutation test has p < 0.05 (four methods never are). A method whose perplexity has broken down
scores badly on everything, and a few such points make any correlation: the columns 'without failures' leave out
methods with more than twice the lowest perplexity."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    asked = scores(trials)
    ppl = measures.ppl(trials.extended)
    points = {m.name: found for m in asked if len(found := pairs(trials, ppl, m, "all")) >= 4}
    if not points:
        missing = "perplexity and a score of four methods or more"
        return Section(TITLE, PROTOCOL, missing=(missing,))
    with mpl.rc_context(STYLE):
        save(picture(trials, points), folder / "against_scores.png")
    table = correlations(trials, ppl, asked)
    return Section(
        TITLE,
        " ".join(PROTOCOL.split()),
        (table, *by_length(trials)),
        (("against_scores.png", f"Perplexity at {trials.extended} against scores. Colours: kinds of methods."),),
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


def pairs(
    trials: Trials, ppl: Measure, score: Measure, name: str, most: float = np.inf
) -> list[tuple[str, float, float]]:
    """-> arm, perplexity, score, of those that have both; perplexity at most so many times the lowest."""
    found = [(arm, trials.value(ppl, arm), trials.value(score, arm)) for arm in group(trials, name)]
    good = [x for x in found if np.isfinite(x[1:]).all()]
    low = min((trials.value(ppl, arm) for arm in group(trials, "all")), default=np.nan, key=or_most)
    return [x for x in good if x[1] <= most * low]


def or_most(x: float) -> float:
    return x if np.isfinite(x) else np.inf


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
            every, able = pairs(trials, ppl, score, name), pairs(trials, ppl, score, name, FAILED)
            numbers = [*map(shown, coefficients(every)), shown(coefficients(able)[0])]
            counts = [Number(float(len(x))) for x in (every, able)]
            label = f"{score.name}, {name}"
            lines.append((Subject(score.name, "", "", name, label), (counts[0], *numbers[:2], counts[1], numbers[2])))
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
        lines.append((Subject(str(length), "", "", "", str(length)), numbers))
    head = tuple(Column(f"rho, {name}", 1.0, 2) for name in GROUPS)
    title = "Perplexity and RULER at the same length"
    return [Table("against_ruler", title, head, tuple(lines), (), "length")] if len(lines) > 1 else []


def findings(trials: Trials, ppl: Measure, asked: Sequence[Measure]) -> list[str]:
    every = [sentence for name in ("exact", "approximate") if (sentence := finding(trials, ppl, asked, name))]
    return [in_short(trials, ppl, asked), *every]


def in_short(trials: Trials, ppl: Measure, asked: Sequence[Measure]) -> str:
    """-> on how many scores it does, surely."""
    parts = []
    for name in ("exact", "approximate"):
        found = [x for m in asked if (x := coefficients(pairs(trials, ppl, m, name))[0])]
        able = [x for m in asked if (x := coefficients(pairs(trials, ppl, m, name, FAILED))[0])]
        sure, still = (sum(x.sign < 0 for x in group) for group in (found, able))
        parts += [
            f"among {name} methods on {sure} of {len(found)} scores ({still} of {len(able)} without failures)"
        ] * bool(found)
    return f"Who has the lower perplexity surely tends to have the higher score {listed(parts)}."


def finding(trials: Trials, ppl: Measure, asked: Sequence[Measure], name: str) -> str:
    """-> what the intervals allow to be said of one group."""
    rho = {m.name: coefficients(pairs(trials, ppl, m, name))[0] for m in asked}
    able = {m.name: coefficients(pairs(trials, ppl, m, name, FAILED))[0] for m in asked}
    sure = [said(m, x) for m, x in rho.items() if x and x.sign < 0]
    against = [said(m, x) for m, x in rho.items() if x and x.sign > 0]
    open_ = [said(m, x) for m, x in rho.items() if x and x.sign == 0]
    if not sure + against + open_:
        return ""
    parts = [f"Among {name} methods, lower perplexity goes with higher scores on {listed(sure)}"] if sure else []
    parts += [f"the reverse holds on {listed(against)}"] if against else []
    parts += [f"nothing is sure on {listed(open_)}"] if open_ else []
    still = [m for m, x in able.items() if x and x.sign < 0]
    known = [m for m, x in able.items() if x]
    lost = [m for m in known if m not in still]
    by = "all of them" if not lost and len(known) == len(rho) else f"{listed(still)}; not on {listed(lost)}"
    tail = f" Without failures it surely does on {by}." if known else ""
    first = parts[0][0].upper() + parts[0][1:] if sure else f"Among {name} methods, {parts[0]}"
    return "; ".join([first, *parts[1:]]) + "." + tail


def said(name: str, x: Correlation) -> str:
    return f"{name} ({x}, {x.n} methods)"


def picture(trials: Trials, points: dict[str, list[tuple[str, float, float]]]) -> Any:
    shown = {name: [(arm, trials.kind(arm), p, 100 * s) for arm, p, s in found] for name, found in points.items()}
    return scatters(shown, trials.extended)
