"""Evaluates a model on planned tasks, and writes the records to disk."""

import functools
import pathlib

import jax

from longjax import made_by_0_1
from longjax.evals.batching import BatchPlan
from longjax.evals.evaluator import evaluate_task, remaining_plan
from longjax.evals.records import RUN, write_or_check
from longjax.evals.requests import Record, Task
from longjax.inference.engine import InferenceEngine
from longjax.progress import ProgressFn
from longjax.ranges import check_memory
from longjax.sharding.distributed import barrier

PlannedTasks = list[tuple[Task, BatchPlan]]


def plan_tasks(tasks: list[Task], engine: InferenceEngine, folder: pathlib.Path) -> PlannedTasks:
    """Returns each task with the batches that have no records yet in the run's folder.

    Raises ValueError if the model cannot take a request.
    """
    return [(task, remaining_plan(task, engine, folder)) for task in tasks]


def check_cache_memory(tasks: PlannedTasks, engine: InferenceEngine) -> None:
    """Raises ValueError, before anything is read or made, for a batch whose KV cache alone is larger than memory.

    Memory is that of all devices that the engine uses.
    """
    devices = list(engine.mesh.devices.flat) if engine.mesh else jax.devices()[:1]
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in devices]
    memory = sum(limits) if all(limits) else None  # a CPU has no limit but the machine's
    for shape in {shape for _, plan in tasks for shape in plan.shapes if shape.kind == "generation"}:
        cache = jax.eval_shape(functools.partial(engine.model.init_cache, shape.rows, shape.size, shape.size))
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))
        check_memory(f"--lengths or --batch_tokens: a batch of {shape.rows} x {shape.size} tokens", size, memory)


def seal_run(engine: InferenceEngine, folder: pathlib.Path, writes: bool) -> None:
    """Writes run.json, which names the model that the folder's records are of.

    Raises ValueError if there is one of another model. Only the process with `writes` writes.
    """
    identity = engine.metadata.get("identity")
    clock = {name: engine.metadata[name] for name in ("train_seconds",) if name in engine.metadata}

    def older(saved: Record) -> Record:  # a training that was resumed took other seconds, for the same weights
        return made_by_0_1.method_file(saved, method=engine.model.method, identity=identity) | clock

    write_or_check(folder / RUN, engine.metadata, writes, older)


def evaluate_tasks(
    tasks: PlannedTasks, engine: InferenceEngine, folder: pathlib.Path, report: ProgressFn, writes: bool
) -> None:
    """Evaluates the model on each task, resuming where records are on disk.

    Args:
      tasks: of `plan_tasks`.
      engine: with parameters.
      folder: of the run; each task has a folder below it.
      report: called with the share of all remaining tokens that is done.
      writes: whether this process writes; all processes read what is there before one writes more.

    Raises:
      ValueError: the folder is of another model or another task, or memory does not suffice.

    """
    seal_run(engine, folder, writes)
    done, total = 0, sum(plan.tokens for _, plan in tasks)
    for task, plan in tasks:

        def report_task(fraction: float, doing: str, done: int = done, plan: BatchPlan = plan) -> None:
            report((done + fraction * plan.tokens) / total, doing)

        barrier(f"start of {task.name}")
        evaluate_task(task, plan, engine, folder, report_task, writes)
        done += plan.tokens
