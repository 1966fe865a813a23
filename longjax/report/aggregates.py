"""Means over tasks, cells and shots that several tables share."""

import dataclasses
from collections.abc import Callable, Sequence

from longjax.evals.requests import Record
from longjax.report.rows import Number, mean_of, mean_row, means

RULER_TASKS = (
    "niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
    "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2",
)  # fmt: skip
LONGBENCH_16 = (
    "narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report", "qmsum", "multi_news",
    "trec", "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p",
)  # fmt: skip


def is_complete(number: Number | None) -> bool:
    """Whether a mean has all of its parts."""
    return number is not None and "of " not in number.mark


def mean_of_cells(field: str) -> Callable[[Sequence[Record]], Number | None]:
    """Return the mean of a field over all cells of a heat map, as a function of the rows."""

    def number(rows: Sequence[Record]) -> Number | None:
        cells = [r for r in rows if r.get(field) is not None]
        return mean_row(cells, field) if cells else None

    return number


def mean_of_shots(rows: Sequence[Record]) -> Number:
    """Return the mean over numbers of shots; the questions are the same for all, so that their errors add up."""
    errors = [r["stderr"] for r in rows if r.get("stderr") is not None]
    stderr = sum(errors) / len(errors) if len(errors) == len(rows) else None
    return dataclasses.replace(mean_row(rows), stderr=stderr, n=max(r["n"] for r in rows))


def longbench_mean(field: str) -> Callable[[Sequence[Record]], Number | None]:
    """Return the mean of a field over the 16 English and code tasks of arXiv:2409.12181, as a function of the rows."""

    def number(rows: Sequence[Record]) -> Number | None:
        by_task = means(rows, lambda r: r["task"], field)
        return mean_of([by_task.get(task) for task in LONGBENCH_16], len(LONGBENCH_16))

    return number


def ruler_mean(length: int | None) -> Callable[[Sequence[Record]], Number | None]:
    """Return the mean over RULER's 13 tasks at one length (arXiv:2404.06654), as a function of the rows."""

    def number(rows: Sequence[Record]) -> Number | None:
        by_task = means([r for r in rows if r["length"] == length], lambda r: r["task"])
        return mean_of([by_task.get(task) for task in RULER_TASKS], len(RULER_TASKS))

    return number
