"""Stand-ins for a model, for tests of evaluators: they answer at once."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from longjax.evals.requests import (
    GenerationRequest,
    GenerationResult,
    LoglikelihoodRequest,
    LoglikelihoodResult,
    Record,
    Request,
    Response,
    Task,
    ToRecord,
)

VOCAB = 420


def uniform(questions: Sequence[Request]) -> list[Response]:
    """Every token is as likely as any other, and nothing is said."""
    return [
        nothing_known(q) if isinstance(q, LoglikelihoodRequest) else GenerationResult("", (), "eos", 0.0)
        for q in questions
    ]


def nothing_known(question: LoglikelihoodRequest) -> LoglikelihoodResult:
    count = len(question.tokens_T) - question.first_scored
    return LoglikelihoodResult(np.full(count, math.log(VOCAB), np.float32), np.zeros(count, bool))


def says(text: Callable[[GenerationRequest], str]) -> Callable[[Sequence[Request]], list[Response]]:
    """A model that answers each question with text(question), and knows every token of those with known answers."""

    def ask(questions: Sequence[Request]) -> list[Response]:
        return [
            GenerationResult(text(q), (1, 2), "length", -1.0) if isinstance(q, GenerationRequest) else knows(q)
            for q in questions
        ]

    return ask


def knows(question: LoglikelihoodRequest) -> LoglikelihoodResult:
    count = len(question.tokens_T) - question.first_scored
    return LoglikelihoodResult(np.zeros(count, np.float32), np.ones(count, bool))


def records(task: Task, ask: Callable[[Sequence[Request]], list[Response]]) -> list[Record]:
    """-> what a run of the task would keep."""
    keep: ToRecord = task.to_record
    answers = zip(task.requests, ask(task.requests), strict=True)
    return [
        {"task": task.name, "index": i, "n_prompt_tokens": len(q.tokens_T)} | q.metadata | keep(q, a)
        for i, (q, a) in enumerate(answers)
    ]
