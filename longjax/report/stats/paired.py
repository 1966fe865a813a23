"""Two runs, example by example: what both were asked, and how far apart their scores are."""

import csv
import io
import pathlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from longjax.evals.records import RECORDS, read_records
from longjax.evals.requests import Record
from longjax.evals.results import example_values
from longjax.report.stats.bootstrap import RESAMPLES, Paired, mean_of, paired

MEANS = ("ruler", "longbench", "longbench_e")  # whose tasks share no examples, so that their means are drawn apart
FEW = 10  # independent examples
Tasks = dict[str, dict[int, Record]]  # records by task and index


class Compared(NamedTuple):
    """A task, or the mean of some; `unmatched`: examples that only one run has, or without a finite number in one."""

    task: str
    result: Paired
    unmatched: int

    @property
    def is_perplexity(self) -> bool:
        return self.task.startswith("perplexity/")


def records_of(run: pathlib.Path, flag: str) -> Tasks:
    """-> all records below a run's folder; what a crash tore is left out."""
    found: Tasks = {}
    for path in sorted(run.rglob(RECORDS)):
        for record in read_records(path)[0]:
            found.setdefault(record["task"], {})[record["index"]] = record
    if not found:
        raise ValueError(f"--{flag}={run} has no {RECORDS} with any records in it")
    return found


def compare(a: Tasks, b: Tasks, seed: int = 0, resamples: int = RESAMPLES) -> list[Compared]:
    """-> all tasks that both have, then the means of benchmarks with several tasks."""
    found = [one for task in a if task in b if (one := of_task(task, a[task], b[task], seed, resamples))]
    if not found:
        raise ValueError(f"--a has {', '.join(a)}, --b has {', '.join(b)}: no example has a number in both")
    groups: dict[str, list[Compared]] = {}
    for one in found:
        if one.task.split("/")[0] in MEANS:
            groups.setdefault(one.task.rpartition("/")[0], []).append(one)
    means = [
        Compared(f"{name}, mean of {len(x)}", mean_of([one.result for one in x]), sum(one.unmatched for one in x))
        for name, x in groups.items()
        if len(x) > 1
    ]
    return [*found, *means]


def of_task(task: str, a: dict[int, Record], b: dict[int, Record], seed: int, resamples: int) -> Compared | None:
    """-> None if no example has a number in both."""
    both = sorted(a.keys() & b.keys())
    for index in both:
        if a[index]["prompt_sha256"] != b[index]["prompt_sha256"]:
            raise ValueError(
                f"{task}, example {index}: --a and --b were asked different questions, so that nothing can be paired; "
                "--tasks chooses others"
            )
    values = zip(*(example_values([side[i] for i in both]) for side in (a, b)), strict=True)
    good = [(i, x, y) for i, (x, y) in zip(both, values, strict=True) if x is not None and y is not None]
    if not good:
        return None
    seed = zlib.crc32(f"{seed} {task}".encode())  # tasks are drawn apart
    records = [a[i] for i, _, _ in good]
    x, y = [x for _, x, _ in good], [y for _, _, y in good]
    if task.startswith("perplexity/"):
        weight = [r.get("weight", r["n"]) for r in records]
        result = paired(x, y, weight, [r.get("piece", r["index"]) for r in records], np.exp, seed, resamples)
    else:
        result = paired(x, y, seed=seed, resamples=resamples)
    return Compared(task, result, len(a.keys() | b.keys()) - len(good))


def table(found: Sequence[Compared]) -> list[list[str]]:
    """-> texts for people: scores in per cent, perplexity as it is; a star where p < 0.05."""
    head = ["task", "n", "unmatched", "a", "b", "b - a", "95 % interval", "p"]
    return [head, *(line(one) for one in found)]


def line(one: Compared) -> list[str]:
    r, scale, digits = one.result, *((1, 3) if one.is_perplexity else (100, 1))
    low, high = (f"{scale * x:+.{digits}f}" for x in r.interval)
    numbers = [f"{scale * r.a:.{digits}f}", f"{scale * r.b:.{digits}f}", f"{scale * r.difference:+.{digits}f}"]
    p = ("<0.001" if r.p < 0.001 else f"{r.p:.3f}") + ("*" if r.p < 0.05 else " ")
    return [one.task, str(r.n), str(one.unmatched), *numbers, f"[{low}, {high}]", p]


def few(found: Sequence[Compared]) -> list[str]:
    """-> a warning: a bootstrap of few examples is surer than it may be."""
    small = [one.task for one in found if one.result.clusters < FEW]
    return (
        [f"intervals too narrow, as there are fewer than {FEW} examples or pieces: {', '.join(small)}"] if small else []
    )


def csv_of(found: Sequence[Compared]) -> str:
    """-> numbers in full; shares in 0..1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "n", "clusters", "unmatched", "a", "b", "difference", "low", "high", "p"])
    for one in found:
        r = one.result
        numbers = (r.a, r.b, r.difference, *r.interval, r.p)
        writer.writerow([one.task, r.n, r.clusters, one.unmatched, *map(repr, numbers)])
    return out.getvalue()
