"""Two runs compared example by example: matched records, and how far apart their scores are."""

import csv
import io
import pathlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from longjax.evals.records import RECORDS, RUN, read_records
from longjax.evals.requests import Record
from longjax.evals.results import example_values
from longjax.report.stats.bootstrap import RESAMPLES, Paired, mean_of, paired

MEANS = ("ruler", "longbench", "longbench_e")  # whose tasks share no examples, so that their means are drawn apart
FEW = 10  # independent examples
RecordsByIndex = dict[int, Record]


class TaskComparison(NamedTuple):
    """The comparison of a task, or of the mean of some.

    Attributes:
      unmatched: examples that only one run has, or without a finite number in one.

    """

    task: str
    result: Paired
    unmatched: int

    @property
    def is_perplexity(self) -> bool:
        return self.task.startswith("perplexity/")


def records_of_run(run: pathlib.Path, flag: str) -> dict[str, RecordsByIndex]:
    """Return all records of a run by task and index, without torn lines.

    Args:
      run: its folder, or one that holds this run alone.
      flag: that names the folder, for messages.

    Raises:
      ValueError: the folder holds no run or several, or the run has no records.

    """
    check_single_run(run, flag)
    by_task: dict[str, RecordsByIndex] = {}
    for path in sorted(run.rglob(RECORDS)):
        for record in read_records(path)[0]:
            by_task.setdefault(record["task"], {})[record["index"]] = record
    if not by_task:
        raise ValueError(f"--{flag}={run} has no {RECORDS} with any records in it")
    return by_task


def check_single_run(folder: pathlib.Path, flag: str) -> None:
    """Raise ValueError unless there is exactly one run in and below a folder, which `flag` names."""
    runs = [path.parent for path in sorted(folder.rglob(RUN))]
    if not runs:
        raise ValueError(f"--{flag}={folder} holds no run ({RUN}): give the folder of an evaluation, runs/eval/yarn")
    if len(runs) > 1:
        names = ", ".join(str(run.relative_to(folder)) for run in runs[:8]) + (", ..." if len(runs) > 8 else "")
        raise ValueError(f"--{flag}={folder} holds {len(runs)} runs, {names}: give one of them, --{flag}={runs[0]}")


def compare_runs(
    a: dict[str, RecordsByIndex], b: dict[str, RecordsByIndex], seed: int = 0, resamples: int = RESAMPLES
) -> list[TaskComparison]:
    """Compare all tasks that both runs have, then the means of benchmarks with several tasks.

    Raises:
      ValueError: no example has a number in both, or examples of one index have different prompts.

    """
    tasks = [x for task in a if task in b if (x := compare_task(task, a[task], b[task], seed, resamples))]
    if not tasks:
        raise ValueError(f"--a has {', '.join(a)}, --b has {', '.join(b)}: no example has a number in both")
    groups: dict[str, list[TaskComparison]] = {}
    for comparison in tasks:
        if comparison.task.split("/")[0] in MEANS:
            groups.setdefault(comparison.task.rpartition("/")[0], []).append(comparison)
    means = [
        TaskComparison(
            f"{name}, mean of {len(group)}", mean_of([x.result for x in group]), sum(x.unmatched for x in group)
        )
        for name, group in groups.items()
        if len(group) > 1
    ]
    return [*tasks, *means]


def compare_task(task: str, a: RecordsByIndex, b: RecordsByIndex, seed: int, resamples: int) -> TaskComparison | None:
    """Compare one task by a paired bootstrap, of perplexity over pieces of text; None: no number in both.

    Raises:
      ValueError: examples of one index have different prompts.

    """
    both = sorted(a.keys() & b.keys())
    for index in both:
        if a[index]["prompt_sha256"] != b[index]["prompt_sha256"]:
            raise ValueError(
                f"{task}, example {index}: --a and --b have different prompts, so that nothing can be paired; choose "
                "other tasks by --tasks"
            )
    values = zip(*(example_values([side[i] for i in both]) for side in (a, b)), strict=True)
    pairs = [(i, x, y) for i, (x, y) in zip(both, values, strict=True) if x is not None and y is not None]
    if not pairs:
        return None
    seed = zlib.crc32(f"{seed} {task}".encode())  # tasks are drawn apart
    records = [a[i] for i, _, _ in pairs]
    x, y = [x for _, x, _ in pairs], [y for _, _, y in pairs]
    if task.startswith("perplexity/"):
        weight = [r.get("weight", r["n"]) for r in records]
        result = paired(x, y, weight, [r.get("piece", r["index"]) for r in records], np.exp, seed, resamples)
    else:
        result = paired(x, y, seed=seed, resamples=resamples)
    return TaskComparison(task, result, len(a.keys() | b.keys()) - len(pairs))


def comparison_table(comparisons: Sequence[TaskComparison]) -> list[list[str]]:
    """Return text cells: scores in per cent, perplexity as it is; a star where p < 0.05."""
    head = ["task", "n", "unmatched", "a", "b", "b - a", "95 % interval", "p"]
    return [head, *map(_line, comparisons)]


def _line(comparison: TaskComparison) -> list[str]:
    r, scale, digits = comparison.result, *((1, 3) if comparison.is_perplexity else (100, 1))
    low, high = (f"{scale * x:+.{digits}f}" for x in r.interval)
    numbers = [f"{scale * r.a:.{digits}f}", f"{scale * r.b:.{digits}f}", f"{scale * r.difference:+.{digits}f}"]
    p = ("<0.001" if r.p < 0.001 else f"{r.p:.3f}") + ("*" if r.p < 0.05 else " ")
    return [comparison.task, str(r.n), str(comparison.unmatched), *numbers, f"[{low}, {high}]", p]


def small_sample_warnings(comparisons: Sequence[TaskComparison]) -> list[str]:
    """Return a warning if a bootstrap has few independent examples, which makes its interval too narrow."""
    small = [x.task for x in comparisons if x.result.clusters < FEW]
    if not small:
        return []
    return [f"intervals too narrow, as there are fewer than {FEW} examples or pieces: {', '.join(small)}"]


def comparison_csv(comparisons: Sequence[TaskComparison]) -> str:
    """Return numbers in full as CSV; shares in 0..1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "n", "clusters", "unmatched", "a", "b", "difference", "low", "high", "p"])
    for x in comparisons:
        numbers = (x.result.a, x.result.b, x.result.difference, *x.result.interval, x.result.p)
        writer.writerow([x.task, x.result.n, x.result.clusters, x.unmatched, *map(repr, numbers)])
    return out.getvalue()
