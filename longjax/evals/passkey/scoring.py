"""Rows of a pass key task: one a cell of the grid, or one of all its prompts where depths are drawn."""

import re
from collections.abc import Sequence

import numpy as np

from longjax.evals.requests import Record


def score(records: Sequence[Record]) -> list[Record]:
    """-> share of keys said in full, its binomial standard error, and the share of their tokens or digits."""
    cells: dict[float | None, list[Record]] = {}
    for record in records:
        cells.setdefault(record["cell"], []).append(record)
    about = {"benchmark": "passkey", "task": "passkey"} | {name: records[0][name] for name in ("variant", "length")}
    return [about | {"depth": depth} | passkey_row(cells[depth]) for depth in sorted(cells, key=lambda x: x or 0.0)]


def passkey_row(records: Sequence[Record]) -> Record:
    said = [by_part_scores(record) for record in records]
    value, n = float(np.mean([share == 1.0 for share in said])), len(said)
    error = float(np.sqrt(value * (1 - value) / n)) if n > 1 else None
    return {"value": value, "stderr": error, "partial": float(np.mean(said)), "n": n}


def by_part_scores(record: Record) -> float:
    """-> the share of the key that was said: of its tokens, where they were given, else of its digits."""
    if "prediction" not in record:
        return record["hits"] / record["n"]
    return RULES[record["rule"]](record["prediction"], record["key"])


def number_found(prediction: str, key: str) -> float:
    """The first number that is said must be the key."""
    found = re.search(r"\d+", prediction)
    return alike(found[0].lstrip("0"), key.lstrip("0")) if found else 0.0


def start(prediction: str, key: str) -> float:
    """What is said must begin with the key."""
    return alike(prediction.strip()[: len(key)], key)


def alike(said: str, key: str) -> float:
    """-> the share of characters that are the same; 1 only if all are."""
    return sum(a == b for a, b in zip(said, key, strict=False)) / max(len(said), len(key), 1)


RULES = {"number": number_found, "start": start}
