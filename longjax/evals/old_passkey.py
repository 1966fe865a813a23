"""Passkey retrieval: a key hidden at some depth of a text, asked for at its end.

Mohtashami and Jaggi 2023, arXiv:2305.16300. The key is teacher-forced: all its tokens are the likeliest
exactly where greedy decoding says the key, so no decoding is needed. Letters: I prompts, T tokens.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from longjax.evals.task import Record, Score, in_batches
from longjax.recall import DIGITS, Phrases


@dataclasses.dataclass(frozen=True, eq=False)
class Passkey:
    """A grid of lengths and depths; keys and text are such that training has seen neither.

    Attributes:
      source: tokens of the test split.
      phrases: the sentences around the key.
      lengths: of the whole prompt, the key at its end included.
      depths: where the needle is, 0 at the start of the text and 1 right before the question.
      samples: prompts a cell. They depend on (seed, length, depth) alone: every method gets the same.
      most: tokens of one call of the model.

    """

    source: np.ndarray
    phrases: Phrases
    lengths: Sequence[int]
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    samples: int = 20
    seed: int = 0
    most: int = 16_384
    name = "passkey"

    def __call__(self, score: Score, length: int) -> list[Record]:
        tokens_IT = np.concatenate([self.prompts(length, depth) for depth in self.depths])
        _, hit_IT = in_batches(score, tokens_IT, self.most)
        cells = hit_IT[:, -DIGITS:].reshape(len(self.depths), self.samples, DIGITS)
        about = {"task": self.name, "length": length}
        return [about | {"depth": depth} | cell(x) for depth, x in zip(self.depths, cells, strict=True)]

    def prompts(self, length: int, depth: float) -> np.ndarray:
        """-> tokens_IT of one cell."""
        rng = np.random.default_rng((self.seed, length, round(depth * 10_000)))
        return np.stack([self.phrases.prompt(rng, self.source, length, depth) for _ in range(self.samples)])


def cell(hit_IT: np.ndarray) -> Record:
    """-> share of keys said in full, its binomial standard error, and the share of their digits."""
    value, n = float(hit_IT.all(axis=1).mean()), len(hit_IT)
    return {"value": value, "stderr": float(np.sqrt(value * (1 - value) / n)), "partial": float(hit_IT.mean()), "n": n}
