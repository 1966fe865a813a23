"""Reads and checks files in LongBench's schema."""

import pathlib

from longjax.evals.context import EvalContext
from longjax.evals.longbench.table import TASKS
from longjax.evals.metrics.classification import classification
from longjax.evals.metrics.count_retrieval import retrieval, retrieval_zh
from longjax.evals.requests import Record

FIELDS = ("input", "context", "answers", "length", "all_classes")
SCHEMA = f"an object a line with {', '.join(FIELDS)}, as in LongBench"
SOURCE = "huggingface.co/datasets/THUDM/LongBench (data.zip)"


def examples(ctx: EvalContext, path: pathlib.Path, kind: str) -> tuple[list[Record], int]:
    """Read the examples of a task.

    Args:
      ctx: limits their number, and tells whether bad lines are left out.
      path: of the file.
      kind: name of the task in TASKS.

    Returns:
      The examples, and the number of lines that were left out.

    Raises:
      ValueError: a line cannot be used, or none can.

    """
    good, bad = ctx.read_jsonl(path, FIELDS, ("input", "context"), lambda record: example_error(record, kind))
    return good[: ctx.max_examples], bad


def example_error(record: Record, kind: str) -> str | None:
    """Return why an example cannot be used; None if it can."""
    if not has_texts(record["answers"]):
        return f"answers must be a list of texts, not {shorten(record['answers'])}"
    if not isinstance(record["length"], int) or isinstance(record["length"], bool):
        return f"length must be a number of words, not {shorten(record['length'])}"
    return scoring_error(record, kind)


def scoring_error(record: Record, kind: str) -> str | None:
    """Return why the task's metric cannot score an example; None if it can."""
    metric = TASKS[kind].metric
    if metric is classification and not has_texts(record["all_classes"]):
        return f"all_classes must be a list of texts, not {shorten(record['all_classes'])}"
    try:
        if metric in (retrieval, retrieval_zh):
            _ = [metric("", answer) for answer in record["answers"]]
    except ValueError as error:
        return str(error)
    return None


def has_texts(x: object) -> bool:
    """Whether a value is a list of at least one text."""
    return isinstance(x, list) and len(x) > 0 and all(isinstance(text, str) for text in x)


def shorten(x: object) -> str:
    """Return the beginning of a value's `repr`, for messages."""
    return repr(x)[:60]
