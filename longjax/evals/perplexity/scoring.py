"""Rows of a perplexity task: one of all its windows, and one a bucket of positions.

Letters: I windows, P pieces.
"""

from collections.abc import Sequence

import numpy as np

from longjax.evals.requests import Record, finite_or_none

LCEG_E = 2.71828  # the study's code raises this, not e, to the loss


def score(records: Sequence[Record]) -> list[Record]:
    """Return the rows of a task. Windows with a loss that is not finite are left out, and counted in `nan`."""
    good = [record for record in records if record["nll"] is not None]
    metadata = {"benchmark": "perplexity"} | {name: records[0][name] for name in ("protocol", "data", "length")}
    rows = [perplexity_row(records, good), *position_rows(good, records[0]["length"])]
    return [metadata | row for row in rows]


def perplexity_row(records: Sequence[Record], good: Sequence[Record]) -> Record:
    """Return perplexity, its standard error over independent pieces of text, and greedy accuracy."""
    mean, error = weighted_mean(good)
    value = np.exp(np.minimum(mean, 700.0))
    numbers = {
        "value": value, "stderr": value * error, "nll": mean, "nll_stderr": error, "lceg": LCEG_E ** min(mean, 700.0),
        "accuracy": sum(r["hits"] for r in good) / max(1, sum(r["n"] for r in good)) if good else np.nan,
    }  # fmt: skip
    pieces = [finite_or_none(x) for x in piece_means(records)]
    counts = {"n": len(good), "nan": len(records) - len(good), "pieces": pieces}
    return {"task": "perplexity"} | {name: finite_or_none(x) for name, x in numbers.items()} | counts


def weighted_mean(good: Sequence[Record]) -> tuple[float, float]:
    """Return the weighted mean of the windows' mean losses, and its standard error.

    Windows of one piece share text, so the error is that of independent pieces.
    """
    if not good:
        return np.nan, np.nan
    weight_I = np.array([record["weight"] for record in good])
    loss_I = np.array([record["nll"] / record["n"] for record in good])
    mean = float((weight_I * loss_I).sum() / weight_I.sum())
    _, piece_I = np.unique([record["piece"] for record in good], return_inverse=True)
    deviation_P = np.bincount(piece_I, weight_I * (loss_I - mean))
    return mean, std_of_sum(deviation_P) / float(weight_I.sum())


def std_of_sum(x_P: np.ndarray) -> float:
    """Return the standard deviation of a sum of independent numbers of mean 0; NaN for fewer than two."""
    return float(np.sqrt(len(x_P) / (len(x_P) - 1) * (x_P**2).sum())) if len(x_P) > 1 else float("nan")


def piece_means(records: Sequence[Record]) -> list[float]:
    """Return the weighted mean loss of each piece; NaN where no window of it is finite."""
    good: dict[int, list[Record]] = {record["piece"]: [] for record in records}
    for record in records:
        if record["nll"] is not None:
            good[record["piece"]].append(record)
    return [weighted_mean(good[piece])[0] for piece in sorted(good)]


def position_rows(good: Sequence[Record], length: int) -> list[Record]:
    """Return the mean loss of each bucket of neighboring positions; none if the task does not keep them."""
    if not good or "bucket_nll" not in good[0]:
        return []
    positions = np.array_split(np.arange(1, length), len(good[0]["bucket_nll"]))
    return [row for k, position in enumerate(positions) for row in bucket_row(good, k, float(position.mean()))]


def bucket_row(good: Sequence[Record], k: int, position: float) -> list[Record]:
    """Return the row of bucket k, if any window scores in it."""
    scored = [record for record in good if record["bucket_n"][k]]
    if not scored:
        return []
    count_I = np.array([record["bucket_n"][k] for record in scored])
    loss_I = np.array([record["bucket_nll"][k] for record in scored])
    value, n = float((count_I * loss_I).sum() / count_I.sum()), int(count_I.sum())
    error = loss_I.std(ddof=1) / np.sqrt(len(loss_I)) if len(loss_I) > 1 else np.nan
    return [{"task": "position_nll", "position": position, "value": value, "stderr": finite_or_none(error), "n": n}]
