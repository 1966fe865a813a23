"""Pass keys as LongLoRA's authors test them: Chen et al. 2023, arXiv:2309.12307, passkey_retrivial.py.

Greedy decoding gives all tokens of the key exactly where each is the likeliest after those before it, so nothing needs
to be decoded.
"""

import dataclasses

import numpy as np

from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import MAX_SIZE, STEP, PasskeySample, hide_key
from longjax.evals.requests import LoglikelihoodRequest, Record


@dataclasses.dataclass(frozen=True)
class LongLora:
    """A key at a random position, teacher-forced."""

    name: str = "longlora"
    step: int = STEP
    max_size: int = MAX_SIZE
    sizes: tuple[int, ...] = tuple(int(3.75 * (i + 1) * 1000 // 1024 * 1024) for i in range(32))
    samples: int = 10

    def draw(self, seed: int, size: int) -> PasskeySample:
        """Return a prompt with `size` characters of garbage, drawn by numpy's legacy generator without upper ends."""
        rng = np.random.RandomState(seed)
        before = int(rng.randint(0, size)) if size else 0
        return hide_key(size, before, int(rng.randint(1, 50_000)))

    def request(self, ctx: EvalContext, sample: PasskeySample, metadata: Record) -> LoglikelihoodRequest:
        """Return the request of a prompt and its key."""
        prompt_T, key = ctx.ids(sample.prompt), ctx.tokenizer.encode_inside(f" {sample.key}")
        return LoglikelihoodRequest(
            np.concatenate([prompt_T, np.array(key, np.int32)]), metadata, first_scored=len(prompt_T)
        )
