"""Common words extraction: find the ten most frequent words of a numbered list (RULER, arXiv:2404.06654)."""

import dataclasses
import random
from collections.abc import Sequence
from typing import NamedTuple

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.sample import Order, RulerSample, SampleSeed

COMMON = 10


class WordCounts(NamedTuple):
    """How often each common word occurs in a list, and how often each other word."""

    common: int
    other: int


@dataclasses.dataclass(frozen=True, eq=False)
class CommonWords:
    """The task; its size is the number of distinct words.

    Attributes:
      prompt: of the task.
      words: to draw from.
      counts: of words in the list.
      shot_counts: of words in the example's list.
      shot_size: number of distinct words in the example's list.
      order: of the list.
      gap: text before the example's answer.

    """

    prompt: RulerPrompt
    words: Sequence[str]
    counts: WordCounts
    shot_counts: WordCounts
    shot_size: int
    order: Order
    gap: str = " "
    min_size: int = COMMON + 1
    num_samples: int = 10**9

    @property
    def max_size(self) -> int:
        """Number of words."""
        return len(self.words)

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        example, common = self.example(sample_seed)
        rng = sample_seed.rng()
        words = rng.sample(self.words, len(self.words))[:n]  # a longer list has the words of a shorter one
        question = self.question(sample_seed, words, self.counts)
        return RulerSample(
            f"{example}{self.prompt.answer_prefix}{self.gap}{numbered(common)}\n{question}",
            self.prompt.answer_prefix, words[:COMMON], {"distinct": n},
        )  # fmt: skip

    def example(self, sample_seed: SampleSeed) -> tuple[str, list[str]]:
        """Return the example's question and its answer."""
        rng = random.Random(f"{sample_seed.seed}/{sample_seed.task}/{sample_seed.index}/example")
        words = rng.sample(self.words, self.shot_size)
        return self.question(sample_seed, words, self.shot_counts), words[:COMMON]

    def question(self, sample_seed: SampleSeed, words: Sequence[str], counts: WordCounts) -> str:
        """Return the prompt of a list, whose common words are the first of `words`."""
        listed = [*words[:COMMON]] * counts.common + [*words[COMMON:]] * counts.other
        self.order(sample_seed).shuffle(listed)
        return self.prompt.template.format(context=numbered(listed), query="")


def numbered(words: Sequence[str]) -> str:
    """Return words as a numbered list in one line."""
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))
