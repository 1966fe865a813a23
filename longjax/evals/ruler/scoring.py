"""RULER's scores of what was said, with what tells a bad model from a bad run; and its own form of predictions."""

import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from longjax import files
from longjax.evals.metrics import ruler
from longjax.evals.requests import Record

METRICS = {"all": ruler.string_match_all, "part": ruler.string_match_part}


def score(records: Sequence[Record]) -> list[Record]:
    """-> one row: the mean share of references that were said, or whether any was (qa).

    Beside it: predictions that are empty; how full the context is; and precision, the share of right ones among all
    that look like an answer, which RULER's recall does not see.
    """
    if not records:
        return []
    said = [ruler.cleaned(record["prediction"]) for record in records]
    value_I = np.array([METRICS[r["metric"]](text, r["references"]) for r, text in zip(records, said, strict=True)])
    right = [x for r, text in zip(records, said, strict=True) if (x := precision(r, text)) is not None]
    error = float(value_I.std(ddof=1) / np.sqrt(len(value_I))) if len(value_I) > 1 else None
    return [
        {
            "benchmark": "ruler", "task": records[0]["ruler_task"], "length": records[0]["length"],
            "value": float(value_I.mean()), "stderr": error, "n": len(value_I),
            "nulls": sum(not text for text in said), "fill": float(np.mean([r["fill"] for r in records])),
            "precision": float(np.mean(right)) if right else None,
        }
    ]  # fmt: skip


def precision(record: Record, text: str) -> float | None:
    """-> of the answers in the text, the share that is right; None: there are none, or nothing tells them."""
    found = {x.lower() for x in re.findall(record["like"], text, re.IGNORECASE)} if record["like"] else set()
    return len(found & {x.lower() for x in record["references"]}) / len(found) if found else None


def export_ruler(records: Sequence[Record], path: pathlib.Path) -> None:
    """Writes predictions as RULER's eval/evaluate.py reads them."""
    rows = [
        {
            "index": r["id"], "pred": r["prediction"], "input": "", "outputs": r["references"],
            "others": {"id": r["id"]}, "truncation": -1, "length": r["n_tokens"] + r["new"],
        }
        for r in records
    ]  # fmt: skip
    files.write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
