"""Evaluates a language model on planned tasks; the records are on disk."""

import pathlib

from longjax.evals.batching import Plan
from longjax.evals.evaluator import examine
from longjax.evals.records import RUN, seal
from longjax.evals.requests import Task
from longjax.inference.language_model import Examinee
from longjax.progress import Report
from longjax.sharding.distributed import together

Planned = list[tuple[Task, Plan]]


def planned(tasks: list[Task], subject: Examinee) -> Planned:
    return [(task, subject.plan(task.questions)) for task in tasks]


def examine_all(tasks: Planned, subject: Examinee, folder: pathlib.Path, report: Report, writes: bool) -> None:
    """All hosts read what there is before one of them writes more. What is reported is the share of all tokens."""
    seal(folder / RUN, subject.about, writes)
    done, total = 0, sum(plan.tokens for _, plan in tasks)
    for task, plan in tasks:

        def tell(part: float, doing: str, done: int = done, plan: Plan = plan) -> None:
            report((done + part * plan.tokens) / total, doing)

        together(f"{task.name} begins")
        examine(task, plan, subject, folder, tell, writes)
        done += plan.tokens
