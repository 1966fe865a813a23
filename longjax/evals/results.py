"""Rows of results, made of the records in folders; each names its run and its settings."""

import pathlib
from collections.abc import Iterator, Sequence

from absl import logging

from longjax import made_by_0_1
from longjax.evals.benchmarks import score
from longjax.evals.records import COST, MANIFEST, RECORDS, RUN, read_records
from longjax.evals.requests import Record
from longjax.files import read_object

COPY_AGAIN = "copy the run's folder again"


def read_rows(root: pathlib.Path) -> list[Record]:
    """Return the rows of all runs in and below `root`, without those of unfinished tasks."""
    return [row for run in sorted(root.rglob(RUN)) for row in run_rows(run.parent, root)]


def run_rows(folder: pathlib.Path, root: pathlib.Path) -> Iterator[Record]:
    """Yield the rows of one run, whose name is its path below `root`."""
    metadata = read_object(folder / RUN, COPY_AGAIN)
    name = folder.name if folder == root else str(folder.relative_to(root))
    for path in sorted(folder.rglob(RECORDS)):
        manifest = read_object(path.parent / MANIFEST, COPY_AGAIN)
        records, _ = read_records(path)
        if len(records) < manifest["n"]:
            logging.warning("%s has %d of %d records: left out", path.parent, len(records), manifest["n"])
            continue
        source = {"run": name, "records": str(path.relative_to(root))}
        settings = made_by_0_1.task_settings(manifest["settings"])
        known = metadata | source | {"settings": settings, "questions": manifest.get("questions")}
        yield from task_rows(records, known, task_cost(path.parent))


def task_rows(records: Sequence[Record], metadata: Record, cost: Record) -> Iterator[Record]:
    """Yield the rows of one task; the seconds of the whole task are in its first row."""
    seconds = sum(r.get("wall_ms", 0.0) for r in records) / 1000
    tokens = sum(r["n_prompt_tokens"] + r.get("n_new", 0) for r in records)
    cost = cost | {"tokens_per_second": tokens / seconds if seconds else None}
    for i, row in enumerate(score(records)):
        yield metadata | row | cost | {"seconds": round(seconds, 3) if i == 0 else 0.0}


def task_cost(folder: pathlib.Path) -> Record:
    """Return the peak memory over all sessions of a task, and the devices that it ran on."""
    costs, _ = read_records(folder / COST)
    peaks = [cost["peak_bytes"] for cost in costs if cost.get("peak_bytes")]
    devices = dict.fromkeys(cost["device"] for cost in costs if cost.get("device"))
    known = {"device": ", ".join(devices)} if devices else {}
    return known | {"peak_bytes": max(peaks)} if peaks else known


def example_values(records: Sequence[Record]) -> list[float | None]:
    """Return what each example adds to its task's mean: the loss for perplexity, else the score."""
    rows = [next(iter(score([record]))) for record in records]
    return [row["nll"] if row["benchmark"] == "perplexity" else row["value"] for row in rows]
