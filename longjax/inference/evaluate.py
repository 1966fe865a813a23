"""Evaluates a language model on planned tasks; the records are on disk."""

import functools
import pathlib

from longjax import made_by_0_1
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


def seal_run(subject: Examinee, folder: pathlib.Path, writes: bool) -> None:
    """Writes which model the folder is of. Raises ValueError if it is of another."""
    older = functools.partial(
        made_by_0_1.of_method, method=subject.model.method, identity=subject.about.get("identity")
    )
    seal(folder / RUN, subject.about, writes, older)


def examine_all(tasks: Planned, subject: Examinee, folder: pathlib.Path, report: Report, writes: bool) -> None:
    """All hosts read what there is before one of them writes more. What is reported is the share of all tokens."""
    seal_run(subject, folder, writes)
    done, total = 0, sum(plan.tokens for _, plan in tasks)
    for task, plan in tasks:

        def tell(part: float, doing: str, done: int = done, plan: Plan = plan) -> None:
            report((done + part * plan.tokens) / total, doing)

        together(f"{task.name} begins")
        examine(task, plan, subject, folder, tell, writes)
        done += plan.tokens
