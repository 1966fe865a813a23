"""Frequent words: coded words by Zipf's law; which three are most frequent? (RULER, arXiv:2404.06654)"""

import dataclasses
import math
import random
import string

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.sample import Order, RulerSample, SampleSeed

LETTERS, ZETA_2 = 6, math.pi**2 / 6  # alpha is 2
DOTS = "..."


@dataclasses.dataclass(frozen=True, eq=False)
class Coded:
    """Grows by words of the text, about; `vocab`: how many different ones, the dots included."""

    prompt: RulerPrompt
    vocab: int
    order: Order
    least: int = 80  # so that the first ranks have different counts
    most: int = 10**9
    samples: int = 10**9

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        rng, names = chance.rng(), [DOTS]
        while len(names) < self.vocab:
            name = "".join(rng.choices(string.ascii_lowercase, k=LETTERS))
            names += [name] if name not in names else []
        words = [name for rank, name in enumerate(names, 1) for _ in range(count(n, rank))]
        text = self.prompt.template.format(context=" ".join(shuffled(words, self.order(chance))), query="")
        return RulerSample(
            text, self.prompt.answer_prefix, names[1:4], {"distinct": len(set(words)), "words": len(words)}
        )


def shuffled(words: list[str], rng: random.Random) -> list[str]:
    """-> in random order; several times as fast as rng.shuffle, and words are many here."""
    keys = [rng.random() for _ in words]
    return [words[i] for i in sorted(range(len(words)), key=keys.__getitem__)]


def count(n: int, rank: int) -> int:
    """-> of n words, those of this rank."""
    return int(n * float(rank) ** -2.0 / ZETA_2)
