"""Pass keys as LongLoRA's authors test them: Chen et al. 2023, arXiv:2309.12307, passkey_retrivial.py.

All tokens of the key must be said, which is so exactly where each is the likeliest after those before it: nothing
needs to be decoded.
"""

import dataclasses

import numpy as np

from longjax.data.tokenizer import encode_inside
from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import MOST, STEP, PasskeySample, hide_key
from longjax.evals.requests import LoglikelihoodRequest, Record


@dataclasses.dataclass(frozen=True)
class LongLora:
    name: str = "longlora"
    step: int = STEP
    most: int = MOST
    sizes: tuple[int, ...] = tuple(int(3.75 * (i + 1) * 1000 // 1024 * 1024) for i in range(32))
    samples: int = 10

    def draw(self, seed: int, size: int) -> PasskeySample:
        """-> a prompt with `size` characters of garbage, drawn by numpy's legacy generator, upper ends left out."""
        rng = np.random.RandomState(seed)
        before = int(rng.randint(0, size)) if size else 0
        return hide_key(size, before, int(rng.randint(1, 50_000)))

    def question(self, material: EvalContext, sample: PasskeySample, about: Record) -> LoglikelihoodRequest:
        prompt_T, key = material.ids(sample.prompt), encode_inside(material.tokenizer, f" {sample.key}")
        return LoglikelihoodRequest(np.concatenate([prompt_T, np.array(key, np.int32)]), about, first=len(prompt_T))
