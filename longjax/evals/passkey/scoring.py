"""Rows of a pass key task: one for each length and cell of the grid, or a length where depths are drawn."""

import re
from collections.abc import Sequence

import numpy as np

from longjax.evals.requests import Record, ended_by_length


def score(records: Sequence[Record]) -> list[Record]:
    """Return rows with the share of keys given in full, its binomial standard error, and the share of their tokens."""
    cells: dict[tuple[int, float | None], list[Record]] = {}
    for record in records:
        cells.setdefault((record["length"], record["cell"]), []).append(record)
    metadata = {"benchmark": "passkey", "task": "passkey", "variant": records[0]["variant"]}
    return [
        metadata | {"length": length, "depth": depth} | passkey_row(cells[length, depth])
        for length, depth in sorted(cells, key=lambda cell: (cell[0], cell[1] or 0.0))
    ]


def passkey_row(records: Sequence[Record]) -> Record:
    """Return the row of the records of one cell."""
    shares = [key_share(record) for record in records]
    value, n = float(np.mean([share == 1.0 for share in shares])), len(shares)
    error = float(np.sqrt(value * (1 - value) / n)) if n > 1 else None
    return {"value": value, "stderr": error, "partial": float(np.mean(shares)), "n": n} | ended_by_length(records)


def key_share(record: Record) -> float:
    """Return the correct share of the key: of its tokens, where it was teacher-forced, else of its digits."""
    if "prediction" not in record:
        return record["hits"] / record["n"]
    return RULES[record["rule"]](record["prediction"], record["key"])


def match_first_number(prediction: str, key: str) -> float:
    """Compare the first number in the prediction with the key."""
    match = re.search(r"\d+", prediction)
    return matching_share(match[0].lstrip("0"), key.lstrip("0")) if match else 0.0


def match_start(prediction: str, key: str) -> float:
    """Compare the beginning of the prediction with the key."""
    return matching_share(prediction.strip()[: len(key)], key)


def matching_share(text: str, key: str) -> float:
    """Return the share of equal characters; 1 only if all are equal."""
    return sum(a == b for a, b in zip(text, key, strict=False)) / max(len(text), len(key), 1)


RULES = {"number": match_first_number, "start": match_start}
