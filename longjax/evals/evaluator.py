"""Runs a task on a model and writes a record of each response, batch by batch, so that a kill loses one batch at most.

A run's folder has run.json (which model it is of) and a folder for each task: manifest.json, records.jsonl, cost.jsonl
and score.json. Scores are made of the records alone, and can be made again at any time.
"""

import functools
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from longjax import files, made_by_0_1
from longjax.evals.batching import Batch, BatchPlan
from longjax.evals.benchmarks import score
from longjax.evals.records import COST, MANIFEST, RECORDS, SCORE, RecordFile, append_records, write_or_check
from longjax.evals.requests import Record, Request, RequestFn, Response, Task
from longjax.files import sha256_bytes

TaskProgressFn = Callable[[float, str], None]  # (share of the task that is done, one line of text)


class EvalModel(Protocol):
    """A model under test."""

    @property
    def metadata(self) -> Record:
        """What the model is: checkpoint, method, tokenizer ..."""
        ...

    def plan(self, requests: Sequence[Request]) -> BatchPlan:
        """Split requests into batches."""
        ...

    def run_batch(self, batch: Batch, requests: Sequence[Request]) -> list[Response]:
        """Return the responses to the requests of a batch, in its order."""
        ...

    def cost(self) -> Record:
        """Return device and peak memory so far, for cost.jsonl."""
        ...


def task_manifest(task: Task, plan: BatchPlan) -> Record:
    """Return all that makes the records of a task what they are, besides the model."""
    requests = "".join(
        sha256_bytes(r.tokens_T.astype("<i4").tobytes()) + json.dumps(r.metadata, sort_keys=True) for r in task.requests
    )
    return {
        "task": task.name, "settings": task.settings, "n": len(task.requests), "questions": sha256_bytes(requests),
        "batches": plan.sha256,
    }  # fmt: skip


def evaluate_task(
    task: Task, plan: BatchPlan, model: EvalModel, folder: pathlib.Path, progress: TaskProgressFn, writes: bool = True
) -> list[Record]:
    """Run the batches of a task that have no records yet, and score all records.

    Args:
      task: its requests.
      plan: their batches.
      model: the model under test.
      folder: of the run; the task's folder is below it.
      progress: called after each batch.
      writes: whether this host writes; of several hosts with the same responses, one does.

    Returns:
      All records, in the order of the plan.

    Raises:
      ValueError: the task's folder holds records of another task or plan, or cannot be written.

    """
    task_folder = folder / task.name
    task_folder.mkdir(parents=True, exist_ok=True)
    older = functools.partial(made_by_0_1.task_manifest, batches=plan.sha256)
    write_or_check(task_folder / MANIFEST, task_manifest(task, plan), writes, older)
    file = RecordFile(task_folder / RECORDS, plan, writes)
    remaining = list(enumerate(plan.batches))[file.batches :]
    for number, batch in remaining:
        start = time.perf_counter()
        responses = model.run_batch(batch, [task.requests[i] for i in batch.indices])
        file.append(list(records_of_batch(task, batch, number, responses, time.perf_counter() - start)))
        progress((number + 1) / len(plan.batches), f"{task.name}: {len(file.records)} of {len(task.requests)}")
    if writes and remaining:
        append_records(task_folder / COST, [model.cost()])
    if writes:
        rows = json.dumps(score(file.records), indent=1, ensure_ascii=False) + "\n"
        files.write_atomically(task_folder / SCORE, rows.encode())
    return file.records


def evaluate_in_memory(task: Task, model: RequestFn) -> list[Record]:
    """Return the records of a task whose requests are run in one call; nothing is written."""
    responses = zip(task.requests, model(task.requests), strict=True)
    return [
        {"task": task.name, "index": i, **request.metadata, **task.to_record(request, response)}
        for i, (request, response) in enumerate(responses)
    ]


def records_of_batch(
    task: Task, batch: Batch, number: int, responses: Sequence[Response], seconds: float
) -> Iterator[Record]:
    """Yield the records of one batch, the `number`th of the plan, which took `seconds`."""
    for index, response in zip(batch.indices, responses, strict=True):
        request = task.requests[index]
        yield {
            "task": task.name,
            "index": index,
            **request.metadata,
            "n_prompt_tokens": len(request.tokens_T),
            "prompt_sha256": sha256_bytes(request.tokens_T.astype("<i4").tobytes()),
            **task.to_record(request, response),
            "batch": number,
            "wall_ms": round(1000 * seconds / len(batch.indices), 3),
        }
