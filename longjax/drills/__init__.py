"""Drills: evaluators' own questions with their best answers, as training rows; made of other text by another seed."""

from longjax.drills.making import TASKS, write
from longjax.drills.material import prepare
from longjax.drills.pool import Drills

__all__ = ["TASKS", "Drills", "prepare", "write"]
