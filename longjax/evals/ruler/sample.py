"""Samples of any size: what the random draws of a task depend on, and what it makes of them."""

import dataclasses
import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from longjax.evals.requests import Record


@dataclasses.dataclass(frozen=True)
class SampleSeed:
    """The seed of a sample's random draws. It has no length: a sample has the same draws at every length."""

    seed: int
    task: str
    index: int

    def rng(self) -> random.Random:
        """Return a generator for the sample's draws."""
        return random.Random(f"{self.seed}/{self.task}/{self.index}")

    def own_order(self) -> random.Random:
        """Return a generator for an order of this sample alone."""
        return random.Random(f"{self.seed}/{self.task}/{self.index}/order")

    def shared_order(self) -> random.Random:
        """Return a generator for an order that all samples of a size share, as in RULER."""
        return random.Random(self.seed)


Order = Callable[[SampleSeed], random.Random]


class RulerSample(NamedTuple):
    """A sample of a task.

    Attributes:
      input: context and question.
      answer_prefix: text with which the answer begins; part of the prompt.
      outputs: strings that the answer must hold.
      metadata: of the sample, for its record.

    """

    input: str
    answer_prefix: str
    outputs: list[str]
    metadata: Record

    @property
    def text(self) -> str:
        """The prompt."""
        return self.input + self.answer_prefix


class SampleMaker(Protocol):
    """A task at one length, which makes samples of any size, in units of its own: words, lines or documents.

    Attributes:
      min_size: smallest size.
      max_size: largest size.
      num_samples: number of different samples.

    """

    @property
    def min_size(self) -> int: ...

    @property
    def max_size(self) -> int: ...

    @property
    def num_samples(self) -> int: ...

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        """Return the sample of a seed at size n."""
        ...
