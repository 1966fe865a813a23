"""The main table of a study of several seeds, who leads within noise, and how far the seeds agree."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats.correlation import Correlation, spearman
from longjax.report.study import recovery
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table, markdown

ALIKE = 0.9  # Spearman's rho of two seeds
DAGGER = " &dagger;"


def main_columns(trials: Trials) -> list[Measure]:
    """Return the measures of the main table that were run for any method."""
    lengths = {
        r["length"]
        for arm in trials.main
        for seed in trials.seeds
        for r in trials.rows_of(arm, seed)
        if r["benchmark"] == "ruler"
    }
    columns = [measures.ppl(n) for n in (trials.trained, trials.extended, trials.longest)]
    columns += [measures.needle(), measures.passkey(), measures.manyshot(), *map(measures.ruler, sorted(lengths))]
    return [m for m in columns if any(trials.number(m, arm) for arm in trials.main)]


def missing_columns(trials: Trials) -> list[str]:
    """Return the names of measures that the main table lacks."""
    wanted = [measures.ppl(n) for n in (trials.trained, trials.extended, trials.longest)]
    wanted += [measures.needle(), measures.passkey(), measures.manyshot(), measures.ruler(trials.extended)]
    return [m.name for m in wanted if not any(trials.number(m, arm) for arm in trials.main)]


def main_table(trials: Trials) -> Table:
    """Return a line a main arm, means over seeds."""
    columns = main_columns(trials)
    lines = tuple((trials.subject(arm), tuple(trials.number(m, arm) for m in columns)) for arm in trials.main)
    notes = [
        "PPL: perplexity of held-out text, each length over the same text. All else in per cent: needle (share of "
        "the sentence's facts found, mean over depths and lengths), pass keys (mean over depths and lengths), "
        "many-shot TREC (mean over numbers of examples), RULER (mean of its 13 tasks).",
        "Mean of the seeds +- half their range. Bold: the best, and all that are not significantly worse.",
    ]
    if recovery.unrecovered(trials):
        notes.append("&dagger; Not recovered when the training ended (see Recovery).")
    return Table("main", "All methods", tuple(m.column for m in columns), lines, tuple(notes))


def main_markdown(trials: Trials, table: Table) -> str:
    """Return the table as Markdown: leaders within noise in bold, a dagger at methods that have not recovered."""
    cells = table.text()
    for arm in recovery.unrecovered(trials):
        cells[1 + trials.main.index(arm)][0] += DAGGER
    first = len(cells[0]) - len(table.columns)
    for j, measure in enumerate(main_columns(trials)):
        for arm in leaders(trials, measure):
            line = cells[1 + trials.main.index(arm)]
            line[first + j] = f"**{line[first + j]}**"
    return markdown(cells)


def ranked(trials: Trials, measure: Measure, arms: Sequence[str]) -> list[str]:
    """Return the arms with a number, the best first."""
    values = {arm: trials.value(measure, arm) for arm in arms}
    known = [arm for arm in arms if not math.isnan(values[arm])]
    return sorted(known, key=lambda arm: values[arm] if measure.is_ppl else -values[arm])


@functools.cache
def leaders(trials: Trials, measure: Measure) -> list[str]:
    """Return the best of the main arms, then all that are not significantly worse on the same questions."""
    order = ranked(trials, measure, trials.main)
    if not order or trials.value(measure, order[0]) == 0.0:
        return []
    return [order[0], *(arm for arm in order[1:] if not significantly_better(trials, measure, order[0], arm))]


def significantly_better(trials: Trials, measure: Measure, a: str, b: str) -> bool:
    """Whether a is better than b by more than the noise of the questions and of the seeds."""
    versus = trials.versus(measure, a, b)
    return versus is not None and versus.significant and (versus.difference < 0) == measure.is_ppl


def between_seeds(trials: Trials, measure: Measure) -> Correlation | None:
    """Return the rank correlation of the main arms' numbers in the first two seeds."""
    if len(trials.seeds) < 2:
        return None
    pairs = [[trials.number_of_seed(measure, arm, seed) for seed in trials.seeds[:2]] for arm in trials.main]
    values = [[x.value for x in pair if x is not None and x.value is not None] for pair in pairs]
    both = np.array([x for x in values if len(x) == 2], float).reshape(-1, 2)
    return spearman(both[:, 0], both[:, 1])


def noise_table(trials: Trials) -> Table:
    """Return a line a column of the main table: how far seeds agree, and the spread of seeds and of questions."""
    lines = []
    for measure in main_columns(trials):
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
    heads = (
        Column("Spearman's rho of two seeds (95 %)", 1.0, 2), Column("half range, median"),
        Column("error of the questions, median"), Column("methods", 1.0, 0), Column("leaders within noise", 1.0, 0),
    )  # fmt: skip
    note = "Half range and error in points of per cent; of perplexity, in per cent of it. Intervals: methods resampled."
    return Table("seeds", "Noise", heads, tuple(lines), (note,), head="measure")


def seed_agreement(trials: Trials) -> str:
    """Return a sentence on how alike two seeds rank the methods."""
    rhos = {m.name: rho for m in main_columns(trials) if (rho := between_seeds(trials, m)) is not None}
    if len(trials.seeds) < 2:
        return "There is one seed only: how much another base and order of data would change is not known."
    if not rhos:
        return "With fewer than four methods, or all alike, the seeds' orders cannot be compared."
    alike = join_names(name for name, rho in rhos.items() if rho.value >= ALIKE)
    return f"Two seeds rank the methods alike (Spearman's rho of at least {ALIKE}) by {alike}."
