"""Common words: ten words of a numbered list come up more often than all others (RULER, arXiv:2404.06654)."""

import dataclasses
import random
from collections.abc import Sequence
from typing import NamedTuple

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.sample import Order, RulerSample, SampleSeed

COMMON = 10


class Often(NamedTuple):
    """How often a common word comes up, and how often another."""

    common: int
    other: int


@dataclasses.dataclass(frozen=True, eq=False)
class Common:
    """Grows by distinct words.

    Attributes:
      prompt: of the task.
      words: to draw from.
      often: in the list.
      shot_often, shot_size: in the example's list, and the distinct words of that.
      order: of the list.
      gap: before the example's answer.

    """

    prompt: RulerPrompt
    words: Sequence[str]
    often: Often
    shot_often: Often
    shot_size: int
    order: Order
    gap: str = " "
    least: int = COMMON + 1
    samples: int = 10**9

    @property
    def most(self) -> int:
        return len(self.words)

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        example, common = self.told(random.Random(f"{chance.seed}/{chance.task}/{chance.index}/example"), chance)
        rng = chance.rng()
        words = rng.sample(self.words, len(self.words))[:n]  # a longer list has the words of a shorter one
        question = self.question(chance, words, self.often)
        return RulerSample(
            f"{example}{self.prompt.answer_prefix}{self.gap}{numbered(common)}\n{question}",
            self.prompt.answer_prefix, words[:COMMON], {"distinct": n},
        )  # fmt: skip

    def told(self, rng: random.Random, chance: SampleSeed) -> tuple[str, list[str]]:
        """-> the example's question and its answer."""
        words = rng.sample(self.words, self.shot_size)
        return self.question(chance, words, self.shot_often), words[:COMMON]

    def question(self, chance: SampleSeed, words: Sequence[str], often: Often) -> str:
        listed = [*words[:COMMON]] * often.common + [*words[COMMON:]] * often.other
        self.order(chance).shuffle(listed)
        return self.prompt.template.format(context=numbered(listed), query="")


def numbered(words: Sequence[str]) -> str:
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))
