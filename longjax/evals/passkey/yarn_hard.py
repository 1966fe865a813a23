"""Several keys in real text, one of them asked for: Peng et al. 2023, arXiv:2309.00071, eval/passkey_hard.py.

There only digits can be said; here all tokens can, so that a model may also fail by saying something else.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import NamedTuple

from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import TASK, PasskeySample
from longjax.evals.requests import GenerationRequest, Record


class HardPlan(NamedTuple):
    """What is drawn: the keys, before which word each comes, and which is asked for."""

    keys: list[int]
    places: list[int]
    target: int


@dataclasses.dataclass(frozen=True, eq=False)
class YarnHard:
    """Sentences with ordinal keys between the words of a text.

    Attributes:
      words: the text in pieces, which joined are the text.
      keys: how many there are.

    """

    words: Sequence[str]
    keys: int = 3

    name: str = "yarn_hard"
    step: int = 8
    sizes: tuple[int, ...] = ()
    samples: int = 20
    new: int = 10

    @property
    def most(self) -> int:
        return len(self.words)

    def plan(self, seed: int, size: int) -> HardPlan:
        rng = random.Random(seed)
        keys = [rng.randint(1, 50_000) for _ in range(self.keys)]
        places = sorted(rng.randint(1, max(1, size)) for _ in range(self.keys))
        return HardPlan(keys, places, rng.randint(0, self.keys - 1))

    def draw(self, seed: int, size: int) -> PasskeySample:
        """-> a prompt with the first `size` words."""
        keys, places, target = self.plan(seed, size)
        lines, cuts = [TASK], [0, *places, size]
        for i, key in enumerate(keys):
            lines += ["".join(self.words[cuts[i] : cuts[i + 1]]), key_sentence(ordinal(i + 1), key)]
        name = ordinal(target + 1)
        question = f"What is the {name} pass key? The {name} pass key is"
        lines += ["".join(self.words[places[-1] : size]), question]
        return PasskeySample("\n".join(lines), str(keys[target]), places[target] / max(1, size))

    def question(self, material: EvalContext, sample: PasskeySample, about: Record) -> GenerationRequest:
        return GenerationRequest(material.ids(sample.prompt), {**about, "rule": "start"}, self.new)


def key_sentence(name: str, key: int) -> str:
    return f"The {name} pass key is {key}. Remember it. {key} is the {name} pass key."


def ordinal(i: int) -> str:
    """-> 1st, 2nd, 3rd, 4th ...; the released code errs from 11 on."""
    ending = "th" if i % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(i % 10, "th")
    return f"{i}{ending}"
