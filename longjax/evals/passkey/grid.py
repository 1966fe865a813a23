"""Pass keys in the project's own study: a grid of lengths and depths in real text, teacher-forced.

The key is five different digits of a kind that training has not seen. All its tokens are the likeliest exactly where
greedy decoding says the key, so nothing needs to be decoded. Letters: I prompts, T tokens.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from longjax.data.passkey_text import DIGITS, PasskeyText
from longjax.evals.requests import LoglikelihoodRequest, Task


@dataclasses.dataclass(frozen=True, eq=False)
class PasskeyGrid:
    """A grid of cells of some prompts each.

    Attributes:
      source: tokens that no training has seen.
      phrases: the sentences around the key.
      depths: where the needle is, 0 at the start of the text and 1 right before the question.
      samples: prompts a cell. They depend on (seed, length, depth) alone: every method gets the same.
      seed: of all that is drawn.
      begin: id before every prompt; -1: none.

    """

    source: np.ndarray
    phrases: PasskeyText
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    samples: int = 20
    seed: int = 0
    begin: int = -1

    def task(self, length: int) -> Task:
        """-> prompts of `length` tokens, the key at their end included."""
        questions = [
            LoglikelihoodRequest(tokens_T, self.about(tokens_T, length, depth), first=length - DIGITS)
            for depth in self.depths
            for tokens_T in self.prompts(length, depth)
        ]
        settings = {"seed": self.seed, "samples": self.samples, "depths": list(self.depths)}
        return Task(f"passkey/study/{length}", questions, settings)

    def about(self, tokens_T: np.ndarray, length: int, depth: float) -> dict:
        digits = [self.phrases.digits.index(i) for i in tokens_T[-DIGITS:].tolist()]
        key = "".join(map(str, digits))
        return {"variant": "study", "length": length, "depth": depth, "cell": depth, "key": key}

    def prompts(self, length: int, depth: float) -> np.ndarray:
        """-> tokens_IT of one cell."""
        rng = np.random.default_rng((self.seed, length, round(depth * 10_000)))
        opening = np.array([self.begin] if self.begin >= 0 else [], np.int32)
        rest = length - len(opening)
        drawn = [self.phrases.prompt(rng, self.source, rest, depth) for _ in range(self.samples)]
        return np.stack([np.concatenate([opening, prompt]) for prompt in drawn])

    @property
    def least(self) -> int:
        """-> tokens of the shortest prompt."""
        return self.phrases.needle_size + self.phrases.ask_size + (self.begin >= 0)
