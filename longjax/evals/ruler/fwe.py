"""Frequent words extraction: the three most frequent of coded words by Zipf's law (RULER, arXiv:2404.06654)."""

import dataclasses
import math
import random
import string

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.sample import Order, RulerSample, SampleSeed

LETTERS, ZETA_2 = 6, math.pi**2 / 6  # alpha is 2
DOTS = "..."


@dataclasses.dataclass(frozen=True, eq=False)
class FrequentWords:
    """The task; its size is about the number of words of the text.

    Attributes:
      prompt: of the task.
      vocab: number of different words, the dots included.
      order: of the text.

    """

    prompt: RulerPrompt
    vocab: int
    order: Order
    min_size: int = 80  # so that the first ranks have different counts
    max_size: int = 10**9
    num_samples: int = 10**9

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        rng, different = sample_seed.rng(), {DOTS: None}  # a dict keeps the order, and finds a name at once
        while len(different) < self.vocab:
            different["".join(rng.choices(string.ascii_lowercase, k=LETTERS))] = None
        names = list(different)
        words = [name for rank, name in enumerate(names, 1) for _ in range(zipf_count(n, rank))]
        text = self.prompt.template.format(context=" ".join(shuffled(words, self.order(sample_seed))), query="")
        return RulerSample(
            text, self.prompt.answer_prefix, names[1:4], {"distinct": len(set(words)), "words": len(words)}
        )


def shuffled(words: list[str], rng: random.Random) -> list[str]:
    """Return words in random order; several times as fast as rng.shuffle, which matters for many words."""
    keys = [rng.random() for _ in words]
    return [words[i] for i in sorted(range(len(words)), key=keys.__getitem__)]


def zipf_count(n: int, rank: int) -> int:
    """Return how many of n words have a rank, which counts from 1."""
    return int(n * float(rank) ** -2.0 / ZETA_2)
