"""Rows of a perplexity task: one of all its windows, and one a bucket of positions.

Letters: I windows, P pieces.
"""

from collections.abc import Sequence

import numpy as np

from longjax.evals.requests import Record, finite_or_none

LCEG_E = 2.71828  # the study's code raises this, not e, to the loss


def score(records: Sequence[Record]) -> list[Record]:
    """-> rows. Windows with a loss that is not finite are left out, and counted in `nan`."""
    good = [record for record in records if record["nll"] is not None]
    about = {"benchmark": "perplexity"} | {name: records[0][name] for name in ("protocol", "data", "length")}
    return [about | whole_text(records, good), *(about | row for row in by_position_rows(good, records[0]["length"]))]


def whole_text(records: Sequence[Record], good: Sequence[Record]) -> Record:
    """-> perplexity, its standard error over independent pieces of text, and the share of likeliest tokens."""
    mean, error = weighted(good)
    value = np.exp(np.minimum(mean, 700.0))
    numbers = {
        "value": value, "stderr": value * error, "nll": mean, "nll_stderr": error, "lceg": LCEG_E ** min(mean, 700.0),
        "accuracy": sum(r["hits"] for r in good) / max(1, sum(r["n"] for r in good)) if good else np.nan,
    }  # fmt: skip
    counts = {"n": len(good), "nan": len(records) - len(good), "pieces": [finite_or_none(x) for x in by_piece(records)]}
    return {"task": "perplexity"} | {name: finite_or_none(x) for name, x in numbers.items()} | counts


def weighted(good: Sequence[Record]) -> tuple[float, float]:
    """-> the weighted mean of the windows' mean losses, and its standard error; windows of a piece move together."""
    if not good:
        return np.nan, np.nan
    weight_I = np.array([record["weight"] for record in good])
    loss_I = np.array([record["nll"] / record["n"] for record in good])
    mean = float((weight_I * loss_I).sum() / weight_I.sum())
    _, piece_I = np.unique([record["piece"] for record in good], return_inverse=True)
    apart_P = np.bincount(piece_I, weight_I * (loss_I - mean))
    return mean, spread_of_sum(apart_P) / float(weight_I.sum())


def spread_of_sum(x_P: np.ndarray) -> float:
    """-> standard deviation of the sum of independent numbers whose mean is known to be 0; NaN for fewer than two."""
    return float(np.sqrt(len(x_P) / (len(x_P) - 1) * (x_P**2).sum())) if len(x_P) > 1 else float("nan")


def by_piece(records: Sequence[Record]) -> list[float]:
    """-> the weighted mean loss of each piece; NaN where no window of it is finite."""
    found: dict[int, list[Record]] = {record["piece"]: [] for record in records}
    for record in records:
        found[record["piece"]] += [record] if record["nll"] is not None else []
    return [weighted(found[name])[0] for name in sorted(found)]


def by_position_rows(good: Sequence[Record], length: int) -> list[Record]:
    """-> mean loss of each bucket of neighbouring positions; none if the task does not keep them."""
    if not good or "bucket_nll" not in good[0]:
        return []
    places = np.array_split(np.arange(1, length), len(good[0]["bucket_nll"]))
    return [row for k, place in enumerate(places) for row in bucket(good, k, float(place.mean()))]


def bucket(good: Sequence[Record], k: int, position: float) -> list[Record]:
    """-> the row of bucket k, if any window scores in it."""
    scored = [record for record in good if record["bucket_n"][k]]
    if not scored:
        return []
    count_I = np.array([record["bucket_n"][k] for record in scored])
    loss_I = np.array([record["bucket_nll"][k] for record in scored])
    value, n = float((count_I * loss_I).sum() / count_I.sum()), int(count_I.sum())
    error = loss_I.std(ddof=1) / np.sqrt(len(loss_I)) if len(loss_I) > 1 else np.nan
    return [{"task": "position_nll", "position": position, "value": value, "stderr": finite_or_none(error), "n": n}]
