"""Several keys in real text and a question about one of them: Peng et al. 2023, arXiv:2309.00071, eval/passkey_hard.py.

The released code decodes only digits; here all tokens are allowed, so a model can also fail with another text.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import NamedTuple

from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import TASK, PasskeySample
from longjax.evals.requests import GenerationRequest, Record


class HardPlan(NamedTuple):
    """The random draws of a prompt: keys, the word before which each is, and the index of the key to retrieve."""

    keys: list[int]
    positions: list[int]
    target: int


@dataclasses.dataclass(frozen=True, eq=False)
class YarnHard:
    """Sentences with ordinal keys between the words of a text.

    Attributes:
      words: the text in pieces, which joined are the text.
      keys: number of keys.

    """

    words: Sequence[str]
    keys: int = 3

    name: str = "yarn_hard"
    step: int = 8
    sizes: tuple[int, ...] = ()
    samples: int = 20
    max_new_tokens: int = 10

    @property
    def max_size(self) -> int:
        """Number of words."""
        return len(self.words)

    def plan(self, seed: int, size: int) -> HardPlan:
        """Draw keys, positions and the key to retrieve."""
        rng = random.Random(seed)
        keys = [rng.randint(1, 50_000) for _ in range(self.keys)]
        positions = sorted(rng.randint(1, max(1, size)) for _ in range(self.keys))
        return HardPlan(keys, positions, rng.randint(0, self.keys - 1))

    def draw(self, seed: int, size: int) -> PasskeySample:
        """Return a prompt with the first `size` words."""
        keys, positions, target = self.plan(seed, size)
        lines, cuts = [TASK], [0, *positions, size]
        for i, key in enumerate(keys):
            lines += ["".join(self.words[cuts[i] : cuts[i + 1]]), key_sentence(ordinal(i + 1), key)]
        name = ordinal(target + 1)
        question = f"What is the {name} pass key? The {name} pass key is"
        lines += ["".join(self.words[positions[-1] : size]), question]
        return PasskeySample("\n".join(lines), str(keys[target]), positions[target] / max(1, size))

    def request(self, ctx: EvalContext, sample: PasskeySample, metadata: Record) -> GenerationRequest:
        """Return the request of a prompt."""
        return GenerationRequest(ctx.ids(sample.prompt), {**metadata, "rule": "start"}, self.max_new_tokens)


def key_sentence(name: str, key: int) -> str:
    """Return the sentences that hide one key."""
    return f"The {name} pass key is {key}. Remember it. {key} is the {name} pass key."


def ordinal(i: int) -> str:
    """Return 1st, 2nd, 3rd, 4th ...; the released code is wrong from 11 on."""
    ending = "th" if i % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(i % 10, "th")
    return f"{i}{ending}"
