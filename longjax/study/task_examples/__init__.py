"""Drills: evaluators' own questions with their best answers, as training rows; made of other text by another seed."""

from longjax.study.task_examples.build import TASKS, write
from longjax.study.task_examples.dataset import Drills
from longjax.study.task_examples.sources import prepare

__all__ = ["TASKS", "Drills", "prepare", "write"]
