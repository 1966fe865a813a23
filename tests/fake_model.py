"""Stand-ins for a model, for tests of evaluators: they answer at once."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from longjax.evals.requests import Answer, Continuation, HowLikely, Keep, Likelihood, Question, Record, Task, WhatNext

VOCAB = 420


def uniform(questions: Sequence[Question]) -> list[Answer]:
    """Every token is as likely as any other, and nothing is said."""
    return [nothing_known(q) if isinstance(q, HowLikely) else Continuation("", (), "eos", 0.0) for q in questions]


def nothing_known(question: HowLikely) -> Likelihood:
    count = len(question.tokens_T) - question.first
    return Likelihood(np.full(count, math.log(VOCAB), np.float32), np.zeros(count, bool))


def says(text: Callable[[WhatNext], str]) -> Callable[[Sequence[Question]], list[Answer]]:
    """A model that answers each question with text(question), and knows every token of those with known answers."""

    def ask(questions: Sequence[Question]) -> list[Answer]:
        return [
            Continuation(text(q), (1, 2), "length", -1.0) if isinstance(q, WhatNext) else knows(q) for q in questions
        ]

    return ask


def knows(question: HowLikely) -> Likelihood:
    count = len(question.tokens_T) - question.first
    return Likelihood(np.zeros(count, np.float32), np.ones(count, bool))


def records(task: Task, ask: Callable[[Sequence[Question]], list[Answer]]) -> list[Record]:
    """-> what a run of the task would keep."""
    keep: Keep = task.keep
    answers = zip(task.questions, ask(task.questions), strict=True)
    return [
        {"task": task.name, "index": i, "n_prompt_tokens": len(q.tokens_T)} | q.about | keep(q, a)
        for i, (q, a) in enumerate(answers)
    ]
