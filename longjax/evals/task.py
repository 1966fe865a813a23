"""What an evaluator asks of a model, and the file in which its answers are kept.

Letters: B rows of one call, I rows of a task, T tokens.
"""

import json
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Record = dict[str, Any]
KEY = ("method", "weights", "task", "length")  # what is done is not done again


class Score(Protocol):
    """A model under test: it says how surprised it is, no more."""

    def __call__(self, tokens_BT: np.ndarray, length_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> nll_BT: -log p(token t | those before), 0 at t = 0 and at t >= length; hit_BT: token t was the likeliest.

        Methods whose frequencies depend on the length take that of `length_B`, one for all rows of a call.
        """
        ...


class Task(Protocol):
    """One evaluator with its data, ready to be put to any model."""

    @property
    def name(self) -> str: ...

    @property
    def lengths(self) -> Sequence[int]: ...

    def __call__(self, score: Score, length: int) -> list[Record]: ...


def in_batches(score: Score, tokens_IT: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """-> nll_IT, hit_IT, asked in batches of about `most` tokens. Every call has one shape: one compilation."""
    rows, length = tokens_IT.shape
    batch, answers = max(1, most // length), []
    for start in range(0, rows, batch):
        index_B = np.minimum(np.arange(start, start + batch), rows - 1)  # the last batch repeats the last row
        answers.append(score(tokens_IT[index_B], np.full(batch, length, np.int32)))
    nll, hit = (np.concatenate([np.asarray(x) for x in side])[:rows] for side in zip(*answers, strict=True))
    return nll.astype(np.float64), hit.astype(bool)


def finite(x: float) -> float | None:
    """JSON has no NaN."""
    return float(x) if np.isfinite(x) else None


class Records:
    """JSON lines, appended a batch at a time; a batch that a crash tore is dropped when the file is opened.

    `writes`: of several hosts that get the same answers, one.
    """

    def __init__(self, path: str | os.PathLike, writes: bool = True):
        self.path, self.writes = pathlib.Path(path), writes
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.all, whole = _read(self.path)
        if self.writes and self.path.exists() and self.path.stat().st_size > whole:
            os.truncate(self.path, whole)
        self.keys = {_key(record) for record in self.all}

    def append(self, batch: Sequence[Record]) -> None:
        """Each record says how many of its batch are still to come, so that a torn batch is seen."""
        batch = [record | {"left": len(batch) - 1 - i} for i, record in enumerate(batch)]
        if self.writes:
            self.write("".join(json.dumps(record, allow_nan=False) + "\n" for record in batch))
        self.all += batch
        self.keys |= {_key(record) for record in batch}

    def write(self, lines: str) -> None:
        with self.path.open("a") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def pending(self, tasks: Sequence[Task], about: Record) -> list[tuple[Task, int]]:
        """-> (task, length) pairs that have no records yet. `about` names the method and the weights."""
        jobs = [(task, length) for task in tasks for length in task.lengths]
        return [job for job in jobs if _key(about | {"task": job[0].name, "length": job[1]}) not in self.keys]

    def run(self, task: Task, length: int, score: Score, about: Record) -> list[Record]:
        """Puts the task to the model and keeps what comes out; `about` (method, weights, kind) goes into each."""
        start = time.perf_counter()
        found = task(score, length)
        seconds = round(time.perf_counter() - start, 3)
        self.append([about | record | {"seconds": seconds if i == 0 else 0.0} for i, record in enumerate(found)])
        return self.all[-len(found) :]


def read_records(path: str | os.PathLike) -> list[Record]:
    """-> the records of all whole batches; the file is left as it is."""
    return _read(pathlib.Path(path))[0]


def _read(path: pathlib.Path) -> tuple[list[Record], int]:
    """-> records, and the number of bytes that hold whole batches."""
    records, whole, place, batch = [], 0, 0, []
    data = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        place += len(line)
        try:
            batch.append(json.loads(line))
        except ValueError as error:
            if place == len(data):
                break
            raise ValueError(f"{path}, line {number}: not a record; delete the line, its job will run again") from error
        if batch[-1]["left"] == 0 and line.endswith(b"\n"):
            records, batch, whole = records + batch, [], place
    return records, whole


def _key(record: Record) -> tuple:
    return tuple(record[name] for name in KEY)
