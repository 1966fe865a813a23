"""Rows of a needle task, one for each depth; and the export to the files that the study's plots read."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from longjax import files
from longjax.evals.metrics.needle import recall, word_overlap
from longjax.evals.metrics.rouge_stemmed import rouge_1
from longjax.evals.requests import Record, ended_by_length


def score(records: Sequence[Record]) -> list[Record]:
    """Return a row for each depth: the share of the facts that answers hold, and the study's scores."""
    cells: dict[float, list[Record]] = {}
    for record in records:
        cells.setdefault(record["depth"], []).append(record)
    metadata = {"benchmark": "needle", "task": "needle"} | {name: records[0][name] for name in ("form", "length")}
    return [metadata | {"depth": depth} | cell_row(cells[depth]) for depth in sorted(cells)]


def cell_row(records: Sequence[Record]) -> Record:
    """Return the mean scores of the records of one depth."""
    scores = [needle_scores(record) for record in records]
    means = {name: float(np.mean([x[name] for x in scores])) for name in scores[0]}
    values = np.array([x["value"] for x in scores])
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return means | {"stderr": error, "n": len(values)} | ended_by_length(records)


def needle_scores(record: Record) -> dict[str, float]:
    """Return the scores of one record, each in 0..1.

    Of a number, value: whether greedy decoding gives all its tokens; partial: the share of its tokens. Of a sentence,
    value: the share of its facts in the answer; exact: whether the answer holds the reference word for word;
    word_overlap: the number of the study's heat maps, at most 11/12; rouge1: the number of its logs, divided by 10.
    """
    if "prediction" not in record:
        return {"value": float(record["hits"] == record["n"]), "partial": record["hits"] / record["n"]}
    answer = record["prediction"].strip()
    return {
        "value": recall(answer, record["references"]), "exact": recall(answer, [record["answer"]]),
        "word_overlap": word_overlap(answer, record["answer"]), "rouge1": rouge_1(answer, record["needle"]),
    }  # fmt: skip


def export_needle(records: Sequence[Record], folder: pathlib.Path, model: str = "longjax") -> list[pathlib.Path]:
    """Write a JSON file a record, as the study's tester does and its needle_plot.py reads.

    Args:
      records: of a task with sentences.
      folder: to write to.
      model: name of the model in the files.

    Returns:
      The paths of the files.

    Raises:
      ValueError: the records are of numbers, for which nothing is generated, or the folder cannot be written.

    """
    if any("prediction" not in record for record in records):
        raise ValueError(
            f"{folder}: with --needle_kind=number nothing is generated; export a run with --needle_kind=sentence"
        )
    paths = []
    for record in records:
        percent = round(100 * record["depth"], 3)
        name = f"{model}_len_{record['length']}_depth_{round(100 * percent)}_results.json"
        answer = record["prediction"].strip()
        content = {
            "model": model, "context_length": record["length"], "depth_percent": percent, "version": 1,
            "needle": record["needle"], "model_response": answer, "score": 10 * rouge_1(answer, record["needle"]),
        }  # fmt: skip
        paths.append(folder / name)
        files.write_atomically(paths[-1], (json.dumps(content, ensure_ascii=False) + "\n").encode())
    return paths
