"""Rows of all seeds of an arm as the rows of one: what figures and tables of single runs show of a whole study."""

import math
from collections.abc import Sequence

from longjax.evals.requests import Record
from longjax.report.rows import COORDINATES, Evaluations, suite_of
from longjax.report.study.trials import Trials

MEANT = ("value", "stderr", "nll", "word_overlap", "rouge1", "exact", "partial", "precision", "fill")
COUNTED = ("n", "nan")


def averaged(trials: Trials, arms: Sequence[str]) -> Evaluations:
    """-> the arms' own weights, each score the mean of those seeds that have it; errors are of the questions."""
    rows = {trials.subject(arm): mean_over_seeds([trials.of(arm, seed) for seed in trials.seeds]) for arm in arms}
    return Evaluations({who: mine for who, mine in rows.items() if mine}, trials.trained, trials.extended)


def mean_over_seeds(seeds: Sequence[Sequence[Record]]) -> list[Record]:
    cells: dict[tuple, list[Record]] = {}
    for rows in seeds:
        for row in rows:
            cells.setdefault((suite_of(row), row["task"], *(row.get(name) for name in COORDINATES)), []).append(row)
    return [mean_row_of(group) for group in cells.values()]


def mean_row_of(rows: Sequence[Record]) -> Record:
    """-> a row as the first, with the means of all."""
    found = {name: [r[name] for r in rows if r.get(name) is not None] for name in (*MEANT, *COUNTED)}
    means = {name: math.fsum(found[name]) / len(found[name]) for name in MEANT if found[name]}
    return rows[0] | means | {name: sum(found[name]) for name in COUNTED if found[name]}
