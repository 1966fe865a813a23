"""Puts a task to a model and keeps the answers: appended a call at a time, so that a kill loses one call at most.

A run's folder has run.json (which model this is) and a folder a task: manifest.json, records.jsonl, cost.jsonl and
score.json. Scores are made of the records alone, and can be made again at any time.
"""

import itertools
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from longjax import files
from longjax.evals import score
from longjax.evals.plan import Batch, Plan
from longjax.evals.questions import Answer, Ask, Question, Record, Task, sha256

RUN, MANIFEST, RECORDS, COST, SCORE = "run.json", "manifest.json", "records.jsonl", "cost.jsonl", "score.json"
CLOCK = ("wall_ms",)  # what two runs of the same do not share
Tell = Callable[[float, str], None]


class Subject(Protocol):
    """A model under test."""

    @property
    def about(self) -> Record:
        """What it is: checkpoint, method, tokenizer ..."""
        ...

    def plan(self, questions: Sequence[Question]) -> Plan: ...

    def answer(self, batch: Batch, questions: Sequence[Question]) -> list[Answer]:
        """-> of the questions with the batch's numbers."""
        ...

    def cost(self) -> Record:
        """-> what is known of compilations and memory so far."""
        ...


class Records:
    """The file of a task. What a crash tore, and the call it belongs to, are dropped when it is opened.

    `writes`: of several hosts that get the same answers, one.
    """

    def __init__(self, path: pathlib.Path, plan: Plan, writes: bool = True):
        self.path, self.writes = path, writes
        found, ends = read(path)
        asked = [number for batch in plan.batches for number in batch.numbers]
        if [record["index"] for record in found] != asked[: len(found)]:
            raise ValueError(f"{path}: its records are not those of this plan; delete {path.parent}")
        totals = list(itertools.accumulate(len(batch.numbers) for batch in plan.batches))
        self.calls = sum(total <= len(found) for total in totals)  # that have all their records
        whole = totals[self.calls - 1] if self.calls else 0
        self.all, size = found[:whole], ends[whole - 1] if whole else 0
        if writes and path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    def append(self, records: Sequence[Record]) -> None:
        """Of one call."""
        if self.writes:
            append(self.path, records)
        self.all += records
        self.calls += 1


def append(path: pathlib.Path, records: Sequence[Record]) -> None:
    """One line each; on the disk when this returns. Raises ValueError if the disk is full."""
    lines = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; what it holds is kept") from error


def read(path: pathlib.Path) -> tuple[list[Record], list[int]]:
    """-> records of all whole lines, and where each line ends in the file."""
    records, ends, place = [], [], 0
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line's end is torn
        place += len(line) + 1
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not a record; delete it and all after it") from error
        ends.append(place)
    return records, ends


def seal(path: pathlib.Path, content: Record, writes: bool = True) -> None:
    """Writes what a folder is of, or compares: numbers of two models or two sets of questions never mix."""
    said = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not path.exists():
        if writes:
            files.write(path, said.encode())
        return
    old, new = json.loads(path.read_text("utf-8")), json.loads(said)
    if old != new:
        differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        marks = " and ".join(sha256(json.dumps(x, sort_keys=True))[:12] for x in (old, new))
        raise ValueError(
            f"{path.parent} holds another run: {path.name} differs in {', '.join(differ)} (fingerprints {marks}); "
            "choose another folder, or delete this one"
        )


def manifest(task: Task, plan: Plan) -> Record:
    """-> all that makes the records of a task what they are, beside the model."""
    asked = "".join(sha256(q.tokens_T.astype("<i4")) + json.dumps(q.about, sort_keys=True) for q in task.questions)
    return {
        "task": task.name, "settings": task.settings, "n": len(task.questions), "questions": sha256(asked),
        "plan": plan.sha256,
    }  # fmt: skip


def examine(
    task: Task, plan: Plan, subject: Subject, folder: pathlib.Path, tell: Tell, writes: bool = True
) -> list[Record]:
    """Asks what has not been answered yet. -> all records, in the order of the plan.

    `folder` is the run's; the task's own is below it.
    """
    own = folder / task.name
    own.mkdir(parents=True, exist_ok=True)
    seal(own / MANIFEST, manifest(task, plan), writes)
    records = Records(own / RECORDS, plan, writes)
    todo = list(enumerate(plan.batches))[records.calls :]
    for number, batch in todo:
        start = time.perf_counter()
        answers = subject.answer(batch, [task.questions[i] for i in batch.numbers])
        records.append(list(made(task, batch, number, answers, time.perf_counter() - start)))
        tell((number + 1) / len(plan.batches), f"{task.name}: {len(records.all)} of {len(task.questions)}")
    if writes and todo:
        append(own / COST, [subject.cost()])
    if writes:
        files.write(own / SCORE, (json.dumps(score(records.all), indent=1, ensure_ascii=False) + "\n").encode())
    return records.all


def answered(task: Task, ask: Ask) -> list[Record]:
    """-> the records of a task that is asked in one go, and kept nowhere."""
    answers = zip(task.questions, ask(task.questions), strict=True)
    return [
        {"task": task.name, "index": i, **question.about, **task.keep(question, answer)}
        for i, (question, answer) in enumerate(answers)
    ]


def made(task: Task, batch: Batch, number: int, answers: Sequence[Answer], spent: float) -> Iterator[Record]:
    """The records of one call."""
    for index, answer in zip(batch.numbers, answers, strict=True):
        question = task.questions[index]
        yield {
            "task": task.name, "index": index, **question.about,
            "n_prompt_tokens": len(question.tokens_T), "prompt_sha256": sha256(question.tokens_T.astype("<i4")),
            **task.keep(question, answer), "batch": number, "wall_ms": round(1000 * spent / len(batch.numbers), 3),
        }  # fmt: skip
