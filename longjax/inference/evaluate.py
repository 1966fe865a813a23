"""Evaluates a language model on planned tasks; the records are on disk."""

import pathlib

from longjax.evals.batching import BatchPlan
from longjax.evals.evaluator import evaluate_task
from longjax.evals.records import RUN, write_or_check
from longjax.evals.requests import Task
from longjax.inference.language_model import LanguageModel
from longjax.progress import ProgressFn
from longjax.sharding.distributed import barrier

PlannedTasks = list[tuple[Task, BatchPlan]]


def plan_tasks(tasks: list[Task], subject: LanguageModel) -> PlannedTasks:
    return [(task, subject.plan(task.requests)) for task in tasks]


def evaluate_tasks(
    tasks: PlannedTasks, subject: LanguageModel, folder: pathlib.Path, report: ProgressFn, writes: bool
) -> None:
    """All hosts read what there is before one of them writes more. What is reported is the share of all tokens."""
    write_or_check(folder / RUN, subject.metadata, writes)
    done, total = 0, sum(plan.tokens for _, plan in tasks)
    for task, plan in tasks:

        def tell(part: float, doing: str, done: int = done, plan: BatchPlan = plan) -> None:
            report((done + part * plan.tokens) / total, doing)

        barrier(f"{task.name} begins")
        evaluate_task(task, plan, subject, folder, tell, writes)
        done += plan.tokens
