"""Pass keys as Landmark attention's authors test them: Mohtashami and Jaggi 2023, arXiv:2305.16300, run_test.py."""

import dataclasses
import random

from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import MOST, STEP, PasskeySample, hide_key
from longjax.evals.requests import GenerationRequest, Record


@dataclasses.dataclass(frozen=True)
class Landmark:
    """The key comes at a random place; the first number of ten tokens said must be it."""

    name: str = "landmark"
    step: int = STEP
    most: int = MOST
    sizes: tuple[int, ...] = (
        0, 100, 500, 1000, 5000, 8000, 10000, 12000, 14000, 18000, 20000, 25000, 38000,
    )  # fmt: skip
    samples: int = 50
    new: int = 10

    def draw(self, seed: int, size: int) -> PasskeySample:
        """-> a prompt with `size` characters of garbage."""
        rng = random.Random(seed)
        return hide_key(size, rng.randint(0, size), rng.randint(1, 50_000))

    def question(self, material: EvalContext, sample: PasskeySample, about: Record) -> GenerationRequest:
        return GenerationRequest(material.ids(sample.prompt), {**about, "rule": "number"}, self.new)
