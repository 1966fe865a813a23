"""Needles in a haystack: values of keys, hidden in a text (RULER, Hsieh et al. 2024, arXiv:2404.06654, section 3.1).

Eight tasks differ in the haystack, in the kinds of keys and values, and in their numbers.
"""

import dataclasses
import random
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.haystacks import IS, Hay
from longjax.evals.ruler.sample import Order, RulerSample, SampleSeed

NEEDLE = "One of the special magic {kind} for {key}" + IS + "{value}."  # as printed in the paper, table 2
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

Draw = Callable[[random.Random], str]


class ValueKind(NamedTuple):
    """A kind of keys or values: its name in prompts, a draw of one, and the regular expression of all."""

    name: str
    draw: Draw
    pattern: str


def random_number(rng: random.Random) -> str:
    """Return a number of seven digits."""
    return str(rng.randint(10**6, 10**7 - 1))


def random_uuid(rng: random.Random) -> str:
    """Return a UUID."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


NUMBERS, UUIDS = ValueKind("numbers", random_number, "[0-9]{7}"), ValueKind("uuids", random_uuid, UUID)


@dataclasses.dataclass(frozen=True)
class RandomPair:
    """Draws a word of two: an adjective and a noun."""

    adjectives: Sequence[str]
    nouns: Sequence[str]

    def __call__(self, rng: random.Random) -> str:
        return f"{rng.choice(self.adjectives)}-{rng.choice(self.nouns)}"


@dataclasses.dataclass(frozen=True)
class DistractorNeedle:
    """Draws a line of the haystack that looks like a needle."""

    key: ValueKind
    value: ValueKind

    def __call__(self, rng: random.Random) -> str:
        return NEEDLE.format(kind=self.value.name, key=self.key.draw(rng), value=self.value.draw(rng))


@dataclasses.dataclass(frozen=True, eq=False)
class NeedlesInHay:
    """The task; its size is that of the haystack.

    Attributes:
      prompt: for several values; `single_needle` changes it for one.
      hay: the haystack.
      key: kind of the keys.
      value: kind of the values.
      order: of needles.
      keys: number of keys.
      values: number of values of each key.
      queries: number of keys in the question.

    """

    prompt: RulerPrompt
    hay: Hay
    key: ValueKind
    value: ValueKind
    order: Order
    keys: int = 1
    values: int = 1
    queries: int = 1
    min_size: int = 1
    max_size: int = 10**9
    num_samples: int = 10**9

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        rng = sample_seed.rng()
        values = self.draw_values(rng)
        queried = rng.sample(list(values), self.queries)
        needles = [NEEDLE.format(kind=self.value.name, key=k, value=v) for k in values for v in values[k]]
        self.order(sample_seed).shuffle(needles)
        outputs = [value for key in queried for value in values[key]]
        prompt = single_needle(self.prompt) if len(outputs) == 1 else self.prompt
        kind = self.value.name.removesuffix("s") if len(outputs) == 1 else self.value.name
        query = ", ".join(queried[:-1]) + ", and " + queried[-1] if len(queried) > 1 else queried[0]
        context = self.hay(rng, n, needles)
        fields = {"type_needle_v": kind, "query": query}
        metadata = {"keys": queried, "depths": [round(context.find(x) / len(context), 4) for x in outputs]}
        return RulerSample(
            prompt.template.format(context=context, **fields), prompt.answer_prefix.format(**fields), outputs, metadata
        )

    def draw_values(self, rng: random.Random) -> dict[str, list[str]]:
        """Draw the values of each key; keys are different."""
        values = {}
        while len(values) < max(self.keys, self.queries):
            values.setdefault(self.key.draw(rng), [self.value.draw(rng) for _ in range(self.values)])
        return values


def single_needle(prompt: RulerPrompt) -> RulerPrompt:
    """Return the prompt for a single value, by RULER's replacements of words."""
    template, prefix = (
        text.replace("Some", "A").replace("are all", "is").replace("are", "is").replace("answers", "answer")
        for text in (prompt.template, prompt.answer_prefix)
    )
    return RulerPrompt(template, prefix, prompt.max_new_tokens)
