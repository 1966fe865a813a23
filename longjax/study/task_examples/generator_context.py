"""The inputs that generators of task examples share: text excerpts, words, pass-key sentences, labeled questions."""

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence

import numpy as np

from longjax.data.passkey_text import PasskeyText
from longjax.evals.context import EvalContext
from longjax.evals.haystack import read_haystack
from longjax.evals.manyshot import label_file, labeled_questions
from longjax.evals.needle.insertion import AfterIds, full_stops
from longjax.evals.ruler.haystacks import Essays, InEssays
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.niah import NeedlesInHay
from longjax.evals.ruler.sample import SampleMaker

CHARACTERS_PER_TOKEN = 8  # at most, on average
MANYSHOT_ENTRY = "Question: {}\nType: {}\n"


@dataclasses.dataclass(frozen=True, eq=False)
class GeneratorContext:
    """Inputs of the generators, each of which is read when it is first used.

    Attributes:
      inputs: of RULER's tasks; its context has the text and the tokenizer.

    """

    inputs: RulerInputs

    @property
    def ctx(self) -> EvalContext:
        """Data directory, tokenizer, lengths and seed."""
        return self.inputs.ctx

    @property
    def bos(self) -> np.ndarray:
        """The id that opens a text, or no id if the tokenizer has none."""
        return self.ctx.ids("")[: int(self.ctx.tokenizer.bos_id >= 0)]

    @functools.cached_property
    def text(self) -> str:
        """The haystack."""
        return read_haystack(self.ctx).text

    @functools.cached_property
    def passkey_text(self) -> PasskeyText:
        """The pass-key sentences as ids."""
        return PasskeyText.from_tokenizer(self.ctx.tokenizer)

    @functools.cached_property
    def sentence_end(self) -> AfterIds:
        """The ids of full stops."""
        return AfterIds(full_stops(self.ctx.tokenizer))

    @functools.cached_property
    def labeled_questions(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Questions with their types: those for examples, and those that are asked."""
        train, test = (labeled_questions(label_file(self.ctx, name, 1), False)[0] for name in ("train", "test"))
        return train, test

    @functools.cached_property
    def tokens_per_shot(self) -> float:
        """Mean number of tokens of a many-shot example."""
        shots = self.labeled_questions[0][:100]
        return len(self.ctx.tokenizer.encode("".join(MANYSHOT_ENTRY.format(*shot) for shot in shots))) / len(shots)

    def excerpt(self, rng: np.random.Generator, tokens: int) -> str:
        """Returns whole words from a random position of the text, at least `tokens` tokens unless it is short."""
        start = int(rng.integers(max(1, len(self.text) - CHARACTERS_PER_TOKEN * tokens)))
        cut = self.text[start : start + CHARACTERS_PER_TOKEN * tokens]
        return cut.partition(" ")[2] or cut

    def excerpt_ids(self, rng: np.random.Generator, tokens: int) -> np.ndarray:
        """Returns the first `tokens` ids of a random excerpt, which is repeated if it is too short."""
        return np.resize(self.ctx.tokenizer.encode(self.excerpt(rng, tokens)), tokens)

    @functools.lru_cache(4)  # noqa: B019 (contexts live as long as their process): a sample has one excerpt at all sizes
    def essays(self, seed: int, tokens: int) -> Essays:
        """Returns a random excerpt as RULER's essays."""
        rng, words = np.random.default_rng(seed), []
        while not words:  # an excerpt may hold blanks alone
            words = self.excerpt(rng, tokens).split()
        return Essays(words)

    def with_excerpts(self, maker: SampleMaker, length: int) -> SampleMaker:
        """Returns a task whose needles, if they lie in essays, lie in another excerpt in each sample."""
        if not (isinstance(maker, NeedlesInHay) and isinstance(maker.hay, InEssays)):
            return maker
        return dataclasses.replace(maker, hay=InExcerpts(self, length, maker.hay.join))


@dataclasses.dataclass(frozen=True, eq=False)
class InExcerpts:
    """A RULER haystack of essays that are another excerpt of the text in each sample.

    Attributes:
      context: with the text.
      length: of the excerpts in tokens.
      join: joins pieces of text.

    """

    context: GeneratorContext
    length: int
    join: Callable[[list[str]], str]

    def __call__(self, rng: random.Random, n: int, needles: Sequence[str]) -> str:
        """Returns n words of an excerpt with the needles between its sentences."""
        essays = self.context.essays(rng.getrandbits(32), self.length)
        return InEssays(essays, self.join)(rng, n, needles)
