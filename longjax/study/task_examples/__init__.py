"""Task examples: the tests' requests with their best answers, as training rows; of other text and by other seeds."""

from longjax.study.task_examples.build import TASKS, write_examples
from longjax.study.task_examples.dataset import TaskExamples
from longjax.study.task_examples.sources import prepare_sources

__all__ = ["TASKS", "TaskExamples", "prepare_sources", "write_examples"]
