"""Runs a task on a model and writes a record of each response, batch by batch, so that a kill loses one batch at most.

A run's folder has run.json (which model it is of) and a folder for each task: manifest.json, records.jsonl, cost.jsonl
and score.json. Scores are made of the records alone, and can be made again at any time. What has a record is not asked
again, whatever the batches that it came from.
"""

import itertools
import json
import pathlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from longjax import files, made_by_0_1
from longjax.evals.batching import Batch, BatchPlan
from longjax.evals.benchmarks import score
from longjax.evals.records import (
    COST,
    MANIFEST,
    RECORDS,
    SCORE,
    RecordFile,
    append_records,
    read_records,
    write_or_check,
)
from longjax.evals.requests import Record, Request, RequestFn, Response, Task, refuse_nan
from longjax.files import sha256_bytes

TaskProgressFn = Callable[[float, str], None]  # (share of the task that is done, one line of text)


class EvalModel(Protocol):
    """A model under test."""

    @property
    def metadata(self) -> Record:
        """What the model is: checkpoint, method, tokenizer ..."""
        ...

    def plan(self, requests: Sequence[Request], done: Collection[int] = ()) -> BatchPlan:
        """Split requests into batches; those whose indices are `done` are left out."""
        ...

    def run_batch(self, batch: Batch, requests: Sequence[Request]) -> list[Response]:
        """Return the responses to the requests of a batch, in its order."""
        ...

    def cost(self) -> Record:
        """Return device and peak memory so far, for cost.jsonl."""
        ...


def remaining_plan(task: Task, model: EvalModel, folder: pathlib.Path) -> BatchPlan:
    """Return the batches of a task that have no records yet in the run's folder; nothing is planned if all have.

    If the records are those of the first batches that this model would plan for the whole task, as after a kill, the
    others follow. Else, as with another budget of tokens or another mesh, the requests without a record are planned
    anew.
    """
    records, _ = read_records(folder / task.name / RECORDS)
    done = {record["index"] for record in records}
    if done.issuperset(range(len(task.requests))):
        return BatchPlan(())
    batches = model.plan(task.requests).batches
    planned = [(index, number) for number, batch in enumerate(batches) for index in batch.indices]
    if [(record["index"], record["batch"]) for record in records] != planned[: len(records)]:
        return model.plan(task.requests, done)
    totals = itertools.accumulate(len(batch.indices) for batch in batches)
    return BatchPlan(batches[sum(total <= len(records) for total in totals) :])


def task_manifest(task: Task) -> Record:
    """Return all that makes the records of a task what they are, besides the model."""
    requests = "".join(
        sha256_bytes(r.tokens_T.astype("<i4").tobytes()) + json.dumps(r.metadata, sort_keys=True) for r in task.requests
    )
    return {
        "task": task.name, "settings": task.settings, "n": len(task.requests), "questions": sha256_bytes(requests),
    }  # fmt: skip


def evaluate_task(
    task: Task, plan: BatchPlan, model: EvalModel, folder: pathlib.Path, progress: TaskProgressFn, writes: bool = True
) -> list[Record]:
    """Run the remaining batches of a task, and score all records.

    Args:
      task: its requests.
      plan: the batches that remain, of `remaining_plan`.
      model: the model under test.
      folder: of the run; the task's folder is below it.
      progress: called after each batch.
      writes: whether this host writes; of several hosts with the same responses, one does.

    Returns:
      All records, in the order in which they were made.

    Raises:
      ValueError: the task's folder holds records of another task, or cannot be written; or the model's logits
        are NaN, which task and record are named for.

    """
    task_folder = folder / task.name
    task_folder.mkdir(parents=True, exist_ok=True)
    write_or_check(task_folder / MANIFEST, task_manifest(task), writes, made_by_0_1.task_manifest)
    remaining = {index for batch in plan.batches for index in batch.indices}
    file = RecordFile(task_folder / RECORDS, len(task.requests), remaining, writes)
    for done, batch in enumerate(plan.batches, 1):
        start = time.perf_counter()
        responses = model.run_batch(batch, [task.requests[i] for i in batch.indices])
        file.append(list(records_of_batch(task, batch, file.next_batch, responses, time.perf_counter() - start)))
        progress(done / len(plan.batches), f"{task.name}: {len(file.records)} of {len(task.requests)}")
    if writes and plan.batches:
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
    """Yield the records of one batch, the `number`th of the task, which took `seconds`. Raises ValueError for NaN."""
    for index, response in zip(batch.indices, responses, strict=True):
        request = task.requests[index]
        refuse_nan(f"{task.name}, record {index}", response)
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
