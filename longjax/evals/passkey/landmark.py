"""Pass keys as Landmark attention's authors test them: Mohtashami and Jaggi 2023, arXiv:2305.16300, run_test.py."""

import dataclasses
import random

from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import MAX_SIZE, STEP, PasskeySample, hide_key
from longjax.evals.requests import GenerationRequest, Record


@dataclasses.dataclass(frozen=True)
class Landmark:
    """A key at a random position; the first number in ten generated tokens must be the key."""

    name: str = "landmark"
    step: int = STEP
    max_size: int = MAX_SIZE
    sizes: tuple[int, ...] = (
        0, 100, 500, 1000, 5000, 8000, 10000, 12000, 14000, 18000, 20000, 25000, 38000,
    )  # fmt: skip
    samples: int = 50
    max_new_tokens: int = 10

    def draw(self, seed: int, size: int) -> PasskeySample:
        """Return a prompt with `size` characters of garbage."""
        rng = random.Random(seed)
        return hide_key(size, rng.randint(0, size), rng.randint(1, 50_000))

    def request(self, ctx: EvalContext, sample: PasskeySample, metadata: Record) -> GenerationRequest:
        """Return the request of a prompt."""
        return GenerationRequest(ctx.ids(sample.prompt), {**metadata, "rule": "number"}, self.max_new_tokens)
