"""Rows of a needle task, one a cell; and the files that the study's plots read."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from longjax import files
from longjax.evals.metrics.needle import recall, word_overlap
from longjax.evals.metrics.rouge_stemmed import rouge_1
from longjax.evals.requests import Record


def score(records: Sequence[Record]) -> list[Record]:
    """-> of each cell what share of the facts was named, and what the study counts."""
    cells: dict[float, list[Record]] = {}
    for record in records:
        cells.setdefault(record["depth"], []).append(record)
    about = {"benchmark": "needle", "task": "needle"} | {name: records[0][name] for name in ("form", "length")}
    return [about | {"depth": depth} | cell_row(cells[depth]) for depth in sorted(cells)]


def cell_row(records: Sequence[Record]) -> Record:
    every = [needle_scores(record) for record in records]
    means = {name: float(np.mean([one[name] for one in every])) for name in every[0]}
    values = np.array([one["value"] for one in every])
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return means | {"stderr": error, "n": len(values)}


def needle_scores(record: Record) -> dict[str, float]:
    """-> of a number: whether all its tokens are the likeliest, and how many. Of a sentence:

    value: the share of its facts that was named; exact: whether the answer was said word for word; word_overlap: the
    study's heat map, of which 11/12 is the most; rouge1: what its logs say, over 10.
    """
    if "prediction" not in record:
        return {"value": float(record["hits"] == record["n"]), "partial": record["hits"] / record["n"]}
    said = record["prediction"].strip()
    return {
        "value": recall(said, record["references"]), "exact": recall(said, [record["answer"]]),
        "word_overlap": word_overlap(said, record["answer"]), "rouge1": rouge_1(said, record["needle"]),
    }  # fmt: skip


def export_needle(records: Sequence[Record], folder: pathlib.Path, model: str = "longjax") -> list[pathlib.Path]:
    """Writes a JSON file a cell, as the study's tester does and its needle_plot.py reads. -> their paths."""
    if any("prediction" not in record for record in records):
        raise ValueError(f"{folder}: of --needle_kind=number nothing is decoded; the study's plots read sentences")
    paths = []
    for record in records:
        percent = round(100 * record["depth"], 3)
        name = f"{model}_len_{record['length']}_depth_{round(100 * percent)}_results.json"
        said = record["prediction"].strip()
        content = {
            "model": model, "context_length": record["length"], "depth_percent": percent, "version": 1,
            "needle": record["needle"], "model_response": said, "score": 10 * rouge_1(said, record["needle"]),
        }  # fmt: skip
        paths.append(folder / name)
        files.write_atomically(paths[-1], (json.dumps(content, ensure_ascii=False) + "\n").encode())
    return paths
