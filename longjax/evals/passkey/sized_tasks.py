"""Tasks of variants whose prompts can have any size, by length in tokens or as published."""

from collections.abc import Sequence
from typing import Protocol

from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.passkey.fitting import largest_fitting
from longjax.evals.passkey.sentences import PasskeySample
from longjax.evals.requests import Record, Request, Task


class PasskeyVariant(Protocol):
    """A variant with prompts of any size.

    Attributes:
      name: in results.
      sizes: that its authors publish; empty: they measure in tokens.
      samples: number of prompts of a size, by its authors.
      step: of sizes, where they are fitted.
      max_size: the largest size.

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
    def max_size(self) -> int: ...

    def draw(self, seed: int, size: int) -> PasskeySample:
        """Return the prompt of a seed and size."""
        ...

    def request(self, ctx: EvalContext, sample: PasskeySample, metadata: Record) -> Request:
        """Return the request of a prompt."""
        ...


def published_tasks(variant: PasskeyVariant, ctx: EvalContext, samples: int) -> list[Task]:
    """Return a task for each published size; its length is that of its first prompt."""
    return [task_of_size(variant, ctx, samples, size, None) for size in variant.sizes]


def fitted_tasks(variant: PasskeyVariant, ctx: EvalContext, samples: int) -> list[Task]:
    """Return a task for each length, whose prompts and answers fit into it. Raises ValueError if none fits."""
    tasks = [task for length in ctx.lengths if (task := task_of_length(variant, ctx, samples, length))]
    if not tasks:
        raise ValueError(f"--lengths={','.join(map(str, ctx.lengths))}: no pass key prompt is as short as that")
    return tasks


def task_of_length(variant: PasskeyVariant, ctx: EvalContext, samples: int, length: int) -> Task | None:
    """Return the task whose prompts and answers fill a length; None if the shortest prompt is longer."""

    def tokens(size: int) -> int:
        return num_tokens(variant.request(ctx, variant.draw(ctx.seed, size), {}))

    size = largest_fitting(tokens, length, variant.step, 100 * variant.step, variant.max_size)
    while size >= 0:
        task = task_of_size(variant, ctx, samples, size, length)
        if max(map(num_tokens, task.requests)) <= length:  # words of other draws may be cut at other characters
            return task
        size -= variant.step
    logging.warning(
        "pass keys (%s) are left out at --lengths=%d: their shortest prompt is longer", variant.name, length
    )
    return None


def task_of_size(variant: PasskeyVariant, ctx: EvalContext, samples: int, size: int, length: int | None) -> Task:
    """Return the task of prompts of one size; `length` None: it is called by its size."""
    draws = [variant.draw(ctx.seed + i, size) for i in range(samples)]
    requests = [passkey_request(variant, ctx, draw) for draw in draws]
    settings = {"seed": ctx.seed, "samples": samples, "size": size}
    length, name = (length, f"{length}") if length else (num_tokens(requests[0]), f"{size}c")
    for request in requests:
        request.metadata["length"] = length
    return Task(f"passkey/{variant.name}/{name}", requests, settings)


def passkey_request(variant: PasskeyVariant, ctx: EvalContext, sample: PasskeySample) -> Request:
    """Return the request of a prompt with its metadata."""
    metadata = {"variant": variant.name, "depth": sample.depth, "cell": None, "key": sample.key}
    return variant.request(ctx, sample, metadata)


def num_tokens(request: Request) -> int:
    """Return the number of tokens of prompt and answer."""
    return len(request.tokens_T) + request.max_new_tokens
