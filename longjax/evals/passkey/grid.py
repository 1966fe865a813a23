"""Pass keys of the project's own study: a grid of lengths and depths in real text, teacher-forced.

The key is five different digits. All its tokens are the likeliest exactly where greedy decoding gives the key, so
nothing needs to be decoded. Letters: I prompts, T tokens.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from longjax.data.passkey_text import DIGITS, PasskeyText
from longjax.evals.requests import LoglikelihoodRequest, Task


@dataclasses.dataclass(frozen=True, eq=False)
class PasskeyGrid:
    """A grid of lengths and depths, with several prompts in each cell.

    Attributes:
      source: tokens around the key, which are not of the training data.
      phrases: the sentences around the key.
      depths: positions of the key, 0 at the start of the text and 1 right before the question.
      samples: prompts of a cell. They depend on (seed, length, depth) alone: all methods get the same.
      seed: of all random draws.
      bos_id: id before every prompt; -1: none.

    """

    source: np.ndarray
    phrases: PasskeyText
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    samples: int = 20
    seed: int = 0
    bos_id: int = -1

    def task(self, length: int) -> Task:
        """Return the task of prompts with `length` tokens, the key at their end included."""
        requests = [
            LoglikelihoodRequest(tokens_T, self.metadata(tokens_T, length, depth), first_scored=length - DIGITS)
            for depth in self.depths
            for tokens_T in self.prompts(length, depth)
        ]
        settings = {"seed": self.seed, "samples": self.samples, "depths": list(self.depths)}
        return Task(f"passkey/study/{length}", requests, settings)

    def metadata(self, tokens_T: np.ndarray, length: int, depth: float) -> dict:
        """Return the metadata of one prompt."""
        digits = [self.phrases.digits.index(i) for i in tokens_T[-DIGITS:].tolist()]
        key = "".join(map(str, digits))
        return {"variant": "study", "length": length, "depth": depth, "cell": depth, "key": key}

    def prompts(self, length: int, depth: float) -> np.ndarray:
        """Return tokens_IT of one cell."""
        rng = np.random.default_rng((self.seed, length, round(depth * 10_000)))
        opening = np.array([self.bos_id] if self.bos_id >= 0 else [], np.int32)
        rest = length - len(opening)
        prompts = [self.phrases.prompt(rng, self.source, rest, depth) for _ in range(self.samples)]
        return np.stack([np.concatenate([opening, prompt]) for prompt in prompts])

    @property
    def min_length(self) -> int:
        """Number of tokens of the shortest prompt."""
        return self.phrases.needle_size + self.phrases.question_size + (self.bos_id >= 0)
