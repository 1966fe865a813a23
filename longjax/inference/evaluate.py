"""Evaluates a language model on planned tasks; the records are on disk."""

import functools
import pathlib

from longjax import made_by_0_1
from longjax.evals.batching import BatchPlan
from longjax.evals.evaluator import evaluate_task
from longjax.evals.records import RUN, write_or_check
from longjax.evals.requests import Task
from longjax.inference.engine import InferenceEngine
from longjax.progress import ProgressFn
from longjax.sharding.distributed import barrier

PlannedTasks = list[tuple[Task, BatchPlan]]


def plan_tasks(tasks: list[Task], subject: InferenceEngine) -> PlannedTasks:
    return [(task, subject.plan(task.requests)) for task in tasks]


def seal_run(subject: InferenceEngine, folder: pathlib.Path, writes: bool) -> None:
    """Writes which model the folder is of. Raises ValueError if it is of another."""
    older = functools.partial(
        made_by_0_1.of_method, method=subject.model.method, identity=subject.metadata.get("identity")
    )
    write_or_check(folder / RUN, subject.metadata, writes, older)


def evaluate_tasks(
    tasks: PlannedTasks, subject: InferenceEngine, folder: pathlib.Path, report: ProgressFn, writes: bool
) -> None:
    """All hosts read what there is before one of them writes more. What is reported is the share of all tokens."""
    seal_run(subject, folder, writes)
    done, total = 0, sum(plan.tokens for _, plan in tasks)
    for task, plan in tasks:

        def tell(part: float, doing: str, done: int = done, plan: BatchPlan = plan) -> None:
            report((done + part * plan.tokens) / total, doing)

        barrier(f"{task.name} begins")
        evaluate_task(task, plan, subject, folder, tell, writes)
        done += plan.tokens
