"""A sample that grows: what one draw of a task says at any size."""

import dataclasses
import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from longjax.evals.requests import Record


@dataclasses.dataclass(frozen=True)
class SampleSeed:
    """All that a sample's randomness comes from. It knows no length: a sample is the same one at every length."""

    seed: int
    task: str
    index: int

    def rng(self) -> random.Random:
        return random.Random(f"{self.seed}/{self.task}/{self.index}")

    def own(self) -> random.Random:
        """Puts things in an order of this sample's."""
        return random.Random(f"{self.seed}/{self.task}/{self.index}/order")

    def shared(self) -> random.Random:
        """Puts things in an order that all samples of a size share, as RULER's do."""
        return random.Random(self.seed)


Order = Callable[[SampleSeed], random.Random]


class RulerSample(NamedTuple):
    """A question, how its answer begins, and what the answer must hold."""

    input: str
    answer_prefix: str
    outputs: list[str]
    about: Record

    @property
    def text(self) -> str:
        return self.input + self.answer_prefix


class Growing(Protocol):
    """A task at one length: samples of any size, in units of its own (words, lines, documents).

    Attributes:
      least, most: sizes that it can have.
      samples: that it has, at most.

    """

    @property
    def least(self) -> int: ...

    @property
    def most(self) -> int: ...

    @property
    def samples(self) -> int: ...

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample: ...
