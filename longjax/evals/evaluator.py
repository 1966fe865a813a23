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
from longjax.evals.batching import Batch, BatchPlan
from longjax.evals.benchmarks import score
from longjax.evals.records import COST, MANIFEST, RECORDS, SCORE, RecordFile, append_records, write_or_check
from longjax.evals.requests import Record, Request, RequestFn, Response, Task
from longjax.files import sha256_bytes

TaskProgressFn = Callable[[float, str], None]


class EvalModel(Protocol):
    """A model under test."""

    @property
    def metadata(self) -> Record:
        """What it is: checkpoint, method, tokenizer ..."""
        ...

    def plan(self, questions: Sequence[Request]) -> BatchPlan: ...

    def run_batch(self, batch: Batch, questions: Sequence[Request]) -> list[Response]:
        """-> of the questions with the batch's numbers."""
        ...

    def cost(self) -> Record:
        """-> what is known of compilations and memory so far."""
        ...


def task_manifest(task: Task, plan: BatchPlan) -> Record:
    """-> all that makes the records of a task what they are, beside the model."""
    asked = "".join(
        sha256_bytes(q.tokens_T.astype("<i4").tobytes()) + json.dumps(q.metadata, sort_keys=True) for q in task.requests
    )
    return {
        "task": task.name, "settings": task.settings, "n": len(task.requests), "questions": sha256_bytes(asked),
        "plan": plan.sha256,
    }  # fmt: skip


def evaluate_task(
    task: Task, plan: BatchPlan, subject: EvalModel, folder: pathlib.Path, tell: TaskProgressFn, writes: bool = True
) -> list[Record]:
    """Asks what has not been answered yet. -> all records, in the order of the plan.

    `folder` is the run's; the task's own is below it.
    """
    own = folder / task.name
    own.mkdir(parents=True, exist_ok=True)
    write_or_check(own / MANIFEST, task_manifest(task, plan), writes)
    records = RecordFile(own / RECORDS, plan, writes)
    todo = list(enumerate(plan.batches))[records.calls :]
    for number, batch in todo:
        start = time.perf_counter()
        answers = subject.run_batch(batch, [task.requests[i] for i in batch.numbers])
        records.append(list(records_of_batch(task, batch, number, answers, time.perf_counter() - start)))
        tell((number + 1) / len(plan.batches), f"{task.name}: {len(records.all)} of {len(task.requests)}")
    if writes and todo:
        append_records(own / COST, [subject.cost()])
    if writes:
        files.write_atomically(
            own / SCORE, (json.dumps(score(records.all), indent=1, ensure_ascii=False) + "\n").encode()
        )
    return records.all


def evaluate_in_memory(task: Task, ask: RequestFn) -> list[Record]:
    """-> the records of a task that is asked in one go, and kept nowhere."""
    answers = zip(task.requests, ask(task.requests), strict=True)
    return [
        {"task": task.name, "index": i, **question.metadata, **task.to_record(question, answer)}
        for i, (question, answer) in enumerate(answers)
    ]


def records_of_batch(
    task: Task, batch: Batch, number: int, answers: Sequence[Response], spent: float
) -> Iterator[Record]:
    """The records of one call."""
    for index, answer in zip(batch.numbers, answers, strict=True):
        question = task.requests[index]
        yield {
            "task": task.name,
            "index": index,
            **question.metadata,
            "n_prompt_tokens": len(question.tokens_T),
            "prompt_sha256": sha256_bytes(question.tokens_T.astype("<i4").tobytes()),
            **task.to_record(question, answer),
            "batch": number,
            "wall_ms": round(1000 * spent / len(batch.numbers), 3),
        }
