"""The main table of a study of several seeds, who leads within noise, and how far the seeds agree."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from longjax.report.rows import Number, ReportSubject
from longjax.report.stats.correlation import Correlation, spearman
from longjax.report.study import measures, recovery
from longjax.report.study.measures import Measure
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table, markdown

ALIKE = 0.9  # Spearman's rho of two seeds
DAGGER = " &dagger;"


def columns(trials: Trials) -> list[Measure]:
    """-> those of the main table that anyone was asked."""
    lengths = sorted(
        {
            r["length"]
            for arm in trials.main
            for s in trials.seeds
            for r in trials.of(arm, s)
            if r["benchmark"] == "ruler"
        }
    )
    asked = [measures.ppl(n) for n in (trials.trained, trials.extended, trials.longest)]
    asked += [measures.needle(), measures.passkey(), measures.manyshot(), *map(measures.ruler, lengths)]
    return [m for m in asked if any(trials.number(m, arm) for arm in trials.main)]


def not_run(trials: Trials) -> list[str]:
    """-> what the main table wants and does not have."""
    wanted = [measures.ppl(n) for n in (trials.trained, trials.extended, trials.longest)]
    wanted += [measures.needle(), measures.passkey(), measures.manyshot(), measures.ruler(trials.extended)]
    return [m.name for m in wanted if not any(trials.number(m, arm) for arm in trials.main)]


def main_table(trials: Trials) -> Table:
    asked = columns(trials)
    lines = tuple((trials.subject(arm), tuple(trials.number(m, arm) for m in asked)) for arm in trials.main)
    notes = (
        "PPL: perplexity of held-out text, each length over the same text. All else in per cent: needle (share of "
        "the sentence's facts found, mean over depths and lengths), pass keys (mean over depths and lengths), "
        "many-shot TREC (mean over numbers of examples), RULER (mean of its 13 tasks).",
        "Mean of the seeds +- half their range. Bold: the best, and who is not surely worse (see below).",
        *["&dagger; Not recovered when the training ended (see below)."] * bool(recovery.unrecovered(trials)),
    )
    return Table("main", "All methods", tuple(m.column for m in asked), lines, notes)


def main_markdown(trials: Trials, table: Table) -> str:
    """-> the table, those who lead within noise in bold, a dagger at those who have not recovered."""
    cells = table.text()
    for arm in recovery.unrecovered(trials):
        cells[1 + trials.main.index(arm)][0] += DAGGER
    first = len(cells[0]) - len(table.columns)
    for j, measure in enumerate(columns(trials)):
        for arm in leaders(trials, measure):
            line = cells[1 + trials.main.index(arm)]
            line[first + j] = f"**{line[first + j]}**"
    return markdown(cells)


def better(measure: Measure, value: float) -> float:
    """-> a number that is larger for the better; NaN is the worst."""
    return -math.inf if math.isnan(value) else -value if measure.is_ppl else value


def ranked(trials: Trials, measure: Measure, arms: Sequence[str]) -> list[str]:
    """-> those with a number, the best first."""
    values = {arm: trials.value(measure, arm) for arm in arms}
    good = [arm for arm in arms if not math.isnan(values[arm])]
    return sorted(good, key=lambda arm: -better(measure, values[arm]))


@functools.cache
def leaders(trials: Trials, measure: Measure) -> list[str]:
    """-> the best of the main arms, then all that are not surely worse on the same questions."""
    order = ranked(trials, measure, trials.main)
    if not order or trials.value(measure, order[0]) == 0.0:
        return []
    return [order[0], *(arm for arm in order[1:] if not significantly_better(trials, measure, order[0], arm))]


def significantly_better(trials: Trials, measure: Measure, a: str, b: str) -> bool:
    """Whether a is better than b by more than noise: of the questions, and of the seeds."""
    found = trials.versus(measure, a, b)
    return found is not None and found.sure and (found.difference < 0) == measure.is_ppl


def between_seeds(trials: Trials, measure: Measure) -> Correlation | None:
    """-> of the main arms' numbers in the first two seeds."""
    if len(trials.seeds) < 2:
        return None
    pairs = [[trials.of_seed(measure, arm, seed) for seed in trials.seeds[:2]] for arm in trials.main]
    values = [[x.value for x in pair if x is not None and x.value is not None] for pair in pairs]
    both = np.array([x for x in values if len(x) == 2], float).reshape(-1, 2)
    return spearman(both[:, 0], both[:, 1])


def seeds_table(trials: Trials) -> Table:
    """A line a column of the main table."""
    lines = []
    for measure in columns(trials):
        numbers = [x for arm in trials.main if (x := trials.number(measure, arm)) is not None and x.value is not None]
        scale = [1 / x.value if measure.is_ppl and x.value else 1.0 for x in numbers]
        halves = [s * x.half_range for s, x in zip(scale, numbers, strict=True) if x.half_range is not None]
        errors = [s * x.stderr for s, x in zip(scale, numbers, strict=True) if x.stderr is not None]
        rho = between_seeds(trials, measure)
        cells = (
            Number(rho.value, mark=f"{rho.low:.2f} to {rho.high:.2f}") if rho else None,
            Number(float(np.median(halves))) if halves else None,
            Number(float(np.median(errors))) if errors else None,
            Number(float(len(numbers))),
            Number(float(len(leaders(trials, measure)))),
        )
        lines.append((ReportSubject(measure.name, "", "", "", measure.name), cells))
    head = (
        Column("Spearman's rho of two seeds (95 %)", 1.0, 2), Column("half range, median"),
        Column("error of the questions, median"), Column("methods", 1.0, 0), Column("leaders within noise", 1.0, 0),
    )  # fmt: skip
    note = "Half range and error in points of per cent; of perplexity, in per cent of it. Intervals: methods resampled."
    return Table("seeds", "What is noise", head, tuple(lines), (note,), head="measure")


def agreement(trials: Trials) -> str:
    """-> a sentence on how alike two seeds rank the methods."""
    found = {m.name: rho for m in columns(trials) if (rho := between_seeds(trials, m)) is not None}
    if len(trials.seeds) < 2:
        return "There is one seed only, so nothing is known of how much another base and order of data would change."
    if not found:
        return "With fewer than four methods, or all alike, the seeds' orders cannot be compared."
    alike = [name for name, rho in found.items() if rho.value >= ALIKE]
    less = [f"{name} ({rho.value:+.2f})" for name, rho in found.items() if rho.value < ALIKE]
    return (
        f"Two seeds rank the methods alike (Spearman's rho of at least {ALIKE}) by {listed(alike)}"
        + (f", less so by {listed(less)}" if less else "")
        + "."
    )
