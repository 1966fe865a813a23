"""Rows of results, made of the records in folders; each says of which run and setting it is."""

import json
import pathlib
from collections.abc import Iterator, Sequence

from absl import logging

from longjax.evals.benchmarks import score
from longjax.evals.records import COST, MANIFEST, RECORDS, RUN, read_records
from longjax.evals.requests import Record


def read_rows(root: pathlib.Path) -> list[Record]:
    """-> the rows of all runs in and below `root`, those of an unfinished task left out."""
    return [row for run in sorted(root.rglob(RUN)) for row in run_rows(run.parent, root)]


def run_rows(folder: pathlib.Path, root: pathlib.Path) -> Iterator[Record]:
    """-> the rows of one run, which is called by its place below `root`."""
    about = json.loads((folder / RUN).read_text("utf-8"))
    name = folder.name if folder == root else str(folder.relative_to(root))
    for path in sorted(folder.rglob(RECORDS)):
        manifest = json.loads((path.parent / MANIFEST).read_text("utf-8"))
        records, _ = read_records(path)
        if len(records) < manifest["n"]:
            logging.warning("%s has %d of %d answers: left out", path.parent, len(records), manifest["n"])
            continue
        place = {"run": name, "records": str(path.relative_to(root))}
        known = about | place | {"settings": manifest["settings"], "questions": manifest.get("questions")}
        yield from task_rows(records, known, costs(path.parent))


def task_rows(records: Sequence[Record], about: Record, cost: Record) -> Iterator[Record]:
    """The seconds of the whole task are in its first row."""
    seconds = sum(r.get("wall_ms", 0.0) for r in records) / 1000
    tokens = sum(r["n_prompt_tokens"] + r.get("n_new", 0) for r in records)
    cost = cost | {"tokens_per_second": tokens / seconds if seconds else None}
    for i, row in enumerate(score(records)):
        yield about | row | cost | {"seconds": round(seconds, 3) if i == 0 else 0.0}


def costs(folder: pathlib.Path) -> Record:
    """-> the largest memory of all parts of a task, and on what they ran."""
    found, _ = read_records(folder / COST)
    peaks = [r["peak_bytes"] for r in found if r.get("peak_bytes")]
    devices = dict.fromkeys(r["device"] for r in found if r.get("device"))
    said = {"device": ", ".join(devices)} if devices else {}
    return said | {"peak_bytes": max(peaks)} if peaks else said


def example_values(records: Sequence[Record]) -> list[float | None]:
    """-> what each example adds to its task's mean: loss for perplexity, else the score."""
    rows = [next(iter(score([record]))) for record in records]
    return [row["nll"] if row["benchmark"] == "perplexity" else row["value"] for row in rows]
