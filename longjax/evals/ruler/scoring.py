"""RULER's scores, with numbers that tell a bad model from a bad run; and the export of predictions."""

import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from longjax import files
from longjax.evals.metrics import ruler
from longjax.evals.requests import Record, ended_by_length

METRICS = {"all": ruler.string_match_all, "part": ruler.string_match_part}


def score(records: Sequence[Record]) -> list[Record]:
    """Return one row: the mean share of the references that predictions hold, or whether they hold any (qa).

    Also the number of empty predictions (`nulls`), the share of those that their limit of tokens ended, the mean share
    of the length that is filled, and precision: the share of right ones among all words that look like an answer, which
    RULER's recall does not count.
    """
    if not records:
        return []
    predictions = [ruler.cleaned(record["prediction"]) for record in records]
    value_I = np.array(
        [METRICS[r["metric"]](text, r["references"]) for r, text in zip(records, predictions, strict=True)]
    )
    precisions = [x for r, text in zip(records, predictions, strict=True) if (x := precision(r, text)) is not None]
    error = float(value_I.std(ddof=1) / np.sqrt(len(value_I))) if len(value_I) > 1 else None
    return [
        {
            "benchmark": "ruler", "task": records[0]["ruler_task"], "length": records[0]["length"],
            "value": float(value_I.mean()), "stderr": error, "n": len(value_I),
            "nulls": sum(not text for text in predictions), "fill": float(np.mean([r["fill"] for r in records])),
            "precision": float(np.mean(precisions)) if precisions else None, **ended_by_length(records),
        }
    ]  # fmt: skip


def precision(record: Record, text: str) -> float | None:
    """Return the right share of the answers in a text; None: it has none, or they cannot be recognized.

    An answer is a whole word that looks like one: in capitals, where all answers are, since small letters make words of
    other kinds.
    """
    case = re.NOFLAG if (record["like"] or "").isupper() else re.IGNORECASE
    answers = {x.lower() for x in re.findall(rf"\b(?:{record['like']})\b", text, case)} if record["like"] else set()
    return len(answers & {x.lower() for x in record["references"]}) / len(answers) if answers else None


def export_ruler(records: Sequence[Record], path: pathlib.Path) -> None:
    """Write the predictions of one task for RULER's eval/evaluate.py."""
    rows = [
        {
            "index": r["id"], "pred": r["prediction"], "input": "", "outputs": r["references"],
            "others": {"id": r["id"]}, "truncation": -1, "length": r["n_tokens"] + r["new"],
        }
        for r in records
    ]  # fmt: skip
    files.write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
