"""Rows of all seeds of an arm as the rows of one, for figures and tables of single runs."""

import math
from collections.abc import Sequence

from longjax.evals.requests import Record
from longjax.report.rows import COORDINATES, Evaluations, suite_of
from longjax.report.study.trials import Trials

AVERAGED = ("value", "stderr", "nll", "word_overlap", "rouge1", "exact", "partial", "precision", "fill")
SUMMED = ("n", "nan")


def mean_evaluations(trials: Trials, arms: Sequence[str]) -> Evaluations:
    """Return the arms' default weights, each score the mean of the seeds that have it; errors are of the questions."""
    rows = {trials.subject(arm): mean_over_seeds([trials.rows_of(arm, seed) for seed in trials.seeds]) for arm in arms}
    return Evaluations({who: mean for who, mean in rows.items() if mean}, trials.trained, trials.extended)


def mean_over_seeds(seeds: Sequence[Sequence[Record]]) -> list[Record]:
    """Return one row for each cell of a benchmark: the first seed's, with the means of all."""
    cells: dict[tuple, list[Record]] = {}
    for rows in seeds:
        for row in rows:
            cells.setdefault((suite_of(row), row["task"], *(row.get(name) for name in COORDINATES)), []).append(row)
    return [_mean_row(rows) for rows in cells.values()]


def _mean_row(rows: Sequence[Record]) -> Record:
    known = {name: [r[name] for r in rows if r.get(name) is not None] for name in (*AVERAGED, *SUMMED)}
    means = {name: math.fsum(known[name]) / len(known[name]) for name in AVERAGED if known[name]}
    return rows[0] | means | {name: sum(known[name]) for name in SUMMED if known[name]}
