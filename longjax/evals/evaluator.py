"""Puts a task to a model and keeps the answers: appended a call at a time, so that a kill loses one call at most.

A run's folder has run.json (which model this is) and a folder a task: manifest.json, records.jsonl, cost.jsonl and
score.json. Scores are made of the records alone, and can be made again at any time.
"""

import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from longjax import files
from longjax.evals.batching import Batch, Plan
from longjax.evals.benchmarks import score
from longjax.evals.records import COST, MANIFEST, RECORDS, SCORE, Records, append, seal
from longjax.evals.requests import Answer, Ask, Question, Record, Task, sha256

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
        files.write_atomically(
            own / SCORE, (json.dumps(score(records.all), indent=1, ensure_ascii=False) + "\n").encode()
        )
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
