"""Scores of LongBench (arXiv:2308.14508), and of the study (arXiv:2409.12181), which cuts answers of more tasks."""

from collections.abc import Sequence

import numpy as np

from longjax.evals.longbench.table import EVEN, TASKS
from longjax.evals.metrics.classification import classification
from longjax.evals.requests import Record, ended_by_length

BUCKETS = {"0-4k": (0, 4000), "4-8k": (4000, 8000), "8k+": (8000, None)}  # of LongBench-E: first <= length < last
LCEG_BUCKETS = {
    "0-4k": (0, 4000), "4-8k": (4000, 8000), "8-16k": (8000, 16_000), "16-32k": (16_000, 32_000), "4k+": (4001, None),
}  # fmt: skip
Buckets = dict[str, tuple[int, int | None]]


def score(records: Sequence[Record]) -> list[Record]:
    """Return one row of a task.

    `value` is LongBench's score and `lceg` the study's, which uses the first line of the answers to more tasks; both
    also by the length of the text in words. `truncated`, `empty` and `ended_by_length` are the shares of prompts
    that lost their middle, of empty answers, and of answers that their limit of tokens ended.
    """
    benchmark, name = records[0]["task"].split("/")
    kind = name.removesuffix(EVEN)
    shares_by = {first_line: score_shares(kind, records, first_line) for first_line in set(first_lines(kind))}
    ours_I, lceg_I = (shares_by[first_line] for first_line in first_lines(kind))
    row = {"benchmark": benchmark, "task": name, "length": None} | mean_score(ours_I)
    row |= {"lceg": float(lceg_I.mean()), "lceg_stderr": stderr(lceg_I)}
    length_I = np.array([record["length"] for record in records])
    row |= {"by_length": means_by_length(ours_I, length_I, BUCKETS), "n_by_length": counts_by_length(length_I, BUCKETS)}
    row |= {
        "lceg_by_length": means_by_length(lceg_I, length_I, LCEG_BUCKETS),
        "lceg_n_by_length": counts_by_length(length_I, LCEG_BUCKETS),
    }
    return [row | data_quality(records)]


def first_lines(kind: str) -> tuple[bool, bool]:
    """Whether only the first line of an answer counts, by LongBench's scorer and by the study's."""
    return TASKS[kind].first_line, TASKS[kind].first_line_lceg


def data_quality(records: Sequence[Record]) -> Record:
    """Return the shares of truncated prompts, of empty answers, and of those that ended by their limit of tokens."""
    return {
        "truncated": float(np.mean([record["n_truncated"] > 0 for record in records])),
        "empty": float(np.mean([not record["prediction"].strip() for record in records])),
    } | ended_by_length(records)


def score_shares(kind: str, records: Sequence[Record], first_line: bool) -> np.ndarray:
    """Return share_I, the score of each example in 0..1, by the reference that fits best."""
    return np.array([score_share(kind, record, first_line) for record in records], np.float64)


def score_share(kind: str, record: Record, first_line: bool) -> float:
    """Return the score of one example in 0..1, of the whole answer or of its first line."""
    prediction = record["prediction"].lstrip("\n").split("\n")[0] if first_line else record["prediction"]
    metric = TASKS[kind].metric
    if metric is classification:
        return max(classification(prediction, answer, record["all_classes"]) for answer in record["answers"])
    return max(metric(prediction, answer) for answer in record["answers"])


def means_by_length(share_I: np.ndarray, length_I: np.ndarray, buckets: Buckets) -> dict[str, float | None]:
    """Return the mean score of each bucket of lengths; None: the bucket is empty."""
    inside = {name: in_bucket(length_I, *bounds) for name, bounds in buckets.items()}
    return {name: float(share_I[in_I].mean()) if in_I.any() else None for name, in_I in inside.items()}


def counts_by_length(length_I: np.ndarray, buckets: Buckets) -> dict[str, int]:
    """Return the number of examples in each bucket of lengths."""
    return {name: int(in_bucket(length_I, *bounds).sum()) for name, bounds in buckets.items()}


def in_bucket(length_I: np.ndarray, first: int, last: int | None) -> np.ndarray:
    """Return for each length whether first <= length < last; None: no upper limit."""
    return (length_I >= first) & (length_I < (np.inf if last is None else last))


def mean_score(share_I: np.ndarray) -> Record:
    """Return mean, standard error and number of scores, as a row has them."""
    return {"value": float(share_I.mean()), "stderr": stderr(share_I), "n": len(share_I)}


def stderr(share_I: np.ndarray) -> float | None:
    """Return the standard error of the mean; None for a single score."""
    return float(share_I.std(ddof=1) / np.sqrt(len(share_I))) if len(share_I) > 1 else None
