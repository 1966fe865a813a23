"""Needles: values of keys, hidden in a text (RULER, Hsieh et al. 2024, arXiv:2404.06654, section 3.1).

Eight tasks differ in the hay, in what keys and values are, and in how many there are.
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
    """What keys or values are: their name, one of them, and the regular expression of all."""

    name: str
    draw: Draw
    like: str


def random_number(rng: random.Random) -> str:
    return str(rng.randint(10**6, 10**7 - 1))


def identifier(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


NUMBERS, UUIDS = ValueKind("numbers", random_number, "[0-9]{7}"), ValueKind("uuids", identifier, UUID)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """A word of two: an adjective and a noun."""

    adjectives: Sequence[str]
    nouns: Sequence[str]

    def __call__(self, rng: random.Random) -> str:
        return f"{rng.choice(self.adjectives)}-{rng.choice(self.nouns)}"


@dataclasses.dataclass(frozen=True)
class OtherNeedle:
    """A line of hay that looks like a needle."""

    key: ValueKind
    value: ValueKind

    def __call__(self, rng: random.Random) -> str:
        return NEEDLE.format(kind=self.value.name, key=self.key.draw(rng), value=self.value.draw(rng))


@dataclasses.dataclass(frozen=True, eq=False)
class NeedlesInHay:
    """Grows by units of the hay.

    Attributes:
      prompt: for several values; one() makes it one for a single value.
      hay: what needles lie in.
      key, value: what they are.
      keys, values, queries: needles have so many keys, so many values each; so many keys are asked for.
      order: of needles.

    """

    prompt: RulerPrompt
    hay: Hay
    key: ValueKind
    value: ValueKind
    order: Order
    keys: int = 1
    values: int = 1
    queries: int = 1
    least: int = 1
    most: int = 10**9
    samples: int = 10**9

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        rng = chance.rng()
        held = self.drawn(rng)
        asked = rng.sample(list(held), self.queries)
        needles = [NEEDLE.format(kind=self.value.name, key=k, value=v) for k in held for v in held[k]]
        self.order(chance).shuffle(needles)
        outputs = [value for key in asked for value in held[key]]
        prompt = single_needle(self.prompt) if len(outputs) == 1 else self.prompt
        kind = self.value.name.removesuffix("s") if len(outputs) == 1 else self.value.name
        query = ", ".join(asked[:-1]) + ", and " + asked[-1] if len(asked) > 1 else asked[0]
        context = self.hay(rng, n, needles)
        asks = {"type_needle_v": kind, "query": query}
        about = {"keys": asked, "depths": [round(context.find(x) / len(context), 4) for x in outputs]}
        return RulerSample(
            prompt.template.format(context=context, **asks), prompt.answer_prefix.format(**asks), outputs, about
        )

    def drawn(self, rng: random.Random) -> dict[str, list[str]]:
        """-> values by key, all different."""
        held = {}
        while len(held) < max(self.keys, self.queries):
            held.setdefault(self.key.draw(rng), [self.value.draw(rng) for _ in range(self.values)])
        return held


def single_needle(prompt: RulerPrompt) -> RulerPrompt:
    """-> the prompt for a single value, by RULER's replacements of words."""
    template, prefix = (
        text.replace("Some", "A").replace("are all", "is").replace("are", "is").replace("answers", "answer")
        for text in (prompt.template, prompt.answer_prefix)
    )
    return RulerPrompt(template, prefix, prompt.new)
