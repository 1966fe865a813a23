"""Tasks of variants whose prompts can have any size, by length or as published."""

from collections.abc import Sequence
from typing import Protocol

from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.passkey.fitting import largest_fitting
from longjax.evals.passkey.sentences import PasskeySample
from longjax.evals.requests import Record, Request, Task


class PasskeyVariant(Protocol):
    """A prompt of any size, and how it is asked.

    Attributes:
      name: in results.
      sizes: published by its authors; empty: they measured in tokens.
      samples: prompts of a size, by its authors.
      step: sizes grow by it, where they are fitted.
      most: the largest size.

    """

    @property
    def name(self) -> str: ...

    @property
    def sizes(self) -> Sequence[int]: ...

    @property
    def samples(self) -> int: ...

    @property
    def step(self) -> int: ...

    @property
    def most(self) -> int: ...

    def draw(self, seed: int, size: int) -> PasskeySample: ...

    def question(self, material: EvalContext, sample: PasskeySample, about: Record) -> Request: ...


def published_tasks(variant: PasskeyVariant, material: EvalContext, samples: int) -> list[Task]:
    """-> a task a size that the authors print; its length is that of its first prompt."""
    return [of_size(variant, material, samples, size, None) for size in variant.sizes]


def fitted_tasks(variant: PasskeyVariant, material: EvalContext, samples: int) -> list[Task]:
    """-> a task a length, whose prompts and answers fit into it."""
    tasks = [task for length in material.lengths if (task := of_length(variant, material, samples, length))]
    if not tasks:
        raise ValueError(f"--lengths={','.join(map(str, material.lengths))}: no pass key prompt is as short as that")
    return tasks


def of_length(variant: PasskeyVariant, material: EvalContext, samples: int, length: int) -> Task | None:
    def tokens(size: int) -> int:
        return total(variant.question(material, variant.draw(material.seed, size), {}))

    size = largest_fitting(tokens, length, variant.step, 100 * variant.step, variant.most)
    while size >= 0:
        task = of_size(variant, material, samples, size, length)
        if max(map(total, task.requests)) <= length:  # other draws may cut words otherwise
            return task
        size -= variant.step
    logging.warning(
        "pass keys (%s) are left out at --lengths=%d: their shortest prompt is longer", variant.name, length
    )
    return None


def of_size(variant: PasskeyVariant, material: EvalContext, samples: int, size: int, length: int | None) -> Task:
    draws = [variant.draw(material.seed + i, size) for i in range(samples)]
    questions = [passkey_request(variant, material, draw) for draw in draws]
    settings = {"seed": material.seed, "samples": samples, "size": size}
    length, name = (length, f"{length}") if length else (total(questions[0]), f"{size}c")
    for question in questions:
        question.metadata["length"] = length
    return Task(f"passkey/{variant.name}/{name}", questions, settings)


def passkey_request(variant: PasskeyVariant, material: EvalContext, sample: PasskeySample) -> Request:
    about = {"variant": variant.name, "depth": sample.depth, "cell": None, "key": sample.key}
    return variant.question(material, sample, about)


def total(question: Request) -> int:
    """-> tokens of prompt and answer."""
    return len(question.tokens_T) + question.max_new_tokens
