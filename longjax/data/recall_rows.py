"""Rows that teach a model to recall: a pass key said once and asked for later, and segments that repeat.

Tiny models learn to look back from text alone only after far more steps than minutes allow, and a study of
long context needs a model that looks back. Every row is a pure function of (seed, its number).
Letters: T tokens of a row, S = T + 1 with the last target, B rows.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from longjax.data import Plan, RowBatch
from longjax.data.passkey_text import PasskeyText, Span, concat_spans
from longjax.files import fingerprint_json

GOLDEN = 0.6180339887498949  # fractional parts of its multiples spread evenly, whichever run of them one takes


class TaskExample(NamedTuple):
    """A question and its best answer, as ids."""

    question: np.ndarray
    answer: np.ndarray


class TaskExampleSource(Protocol):
    """Where drills come from: see longjax.drills."""

    @property
    def sha256(self) -> str: ...

    def draw(self, rng: np.random.Generator, room: int) -> TaskExample | None:
        """-> a drill of at most `room` tokens, if there is one."""
        ...


@dataclasses.dataclass(frozen=True)
class RecallMixture:
    """A plan's rows, a share of them turned into recall. Row i is built from the plan's i-th row.

    Attributes:
      plan: the text, and the filler between needles and questions.
      passkey: share of rows with pass keys.
      repeat: share of rows that repeat a segment.
      long: share of pass key rows with one key for the whole row; the others hold several short episodes.
      filler: weight of the loss on text and sentences around the keys, and on drills' questions.
      gap: most tokens of filler in a short episode.
      segment: most tokens of a segment that repeats; None: one a row, of up to half of it.
      drills: questions with their answers; None: there are none.
      drill_share: share of rows made of them.
      answer: weight of the loss on their answers, which are a few tokens among many.

    """

    plan: Plan
    phrases: PasskeyText
    passkey: float = 0.35
    repeat: float = 0.25
    long: float = 0.5
    filler: float = 0.3
    gap: int = 24
    segment: int | None = None
    seed: int = 0
    task_examples: TaskExampleSource | None = None
    task_example_share: float = 0.0
    answer: float = 4.0

    def __post_init__(self):
        if min(shares := (self.passkey, self.repeat, self.task_example_share)) < 0 or sum(shares) > 1:
            raise ValueError(
                f"--passkey={self.passkey}, --repeat={self.repeat} and drills={self.task_example_share} are shares: "
                "at most 1 together"
            )
        assert self.task_examples or not self.task_example_share
        if self.passkey and self.plan.length < (need := self.phrases.needle_size + self.phrases.ask_size):
            raise ValueError(f"--length={self.plan.length} is too short for a pass key row: it needs {need} tokens")

    @property
    def sha256(self) -> str:
        words = self.phrases
        known = {  # its keys outlive the names of fields: the rows of an older release have the same hash
            "plan": self.plan.sha256, "drills": self.task_examples and self.task_examples.sha256,
            "drill_share": self.task_example_share, "passkey": self.passkey, "repeat": self.repeat, "long": self.long,
            "filler": self.filler, "gap": self.gap, "segment": self.segment, "seed": self.seed, "answer": self.answer,
            "phrases": {
                "before": words.before, "between": words.between, "after": words.after, "question": words.question,
                "digits": words.digits,
            },
        }  # fmt: skip
        return fingerprint_json(known)

    @property
    def length(self) -> int:
        return self.plan.length

    def __call__(self, first: int, count: int) -> RowBatch:
        text_BS = self.plan(first, count).tokens_BS
        rows = [self.turn(first + b, text_BS[b]) for b in range(count)]
        tokens_BS, weights_BS = (np.stack(x) for x in zip(*rows, strict=True))
        return RowBatch(tokens_BS, weights_BS[:, 1:])

    def turn(self, i: int, text_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> ids_S, weights_S of row i, given its text."""
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, i))))
        kind = (i + 0.5) * GOLDEN % 1
        if kind < self.passkey:
            episodes = self.one_key(rng, iter(text_S)) if rng.random() < self.long else self.keys(rng, iter(text_S))
            return concat_spans([*episodes], len(text_S))
        if kind < self.passkey + self.repeat:
            return concat_spans([*self.repeated(rng, text_S)], len(text_S))
        if self.task_examples and kind < self.passkey + self.repeat + self.task_example_share:
            return concat_spans([*self.drilled(rng, self.task_examples, text_S)], len(text_S))
        return text_S, np.ones(len(text_S), np.float32)

    def text(self, source: Iterator[int], count: int) -> Span:
        return [*itertools.islice(source, int(count))], self.filler

    def one_key(self, rng: np.random.Generator, source: Iterator[int]) -> Iterator[Span]:
        """Text, the needle, more text, and one to three questions, the last at the end of the row."""
        key, ask, size = self.phrases.key(rng, held_out=False), self.phrases.ask_size, self.plan.length + 1
        room = size - self.phrases.needle_size
        asks = int(rng.integers(1, 1 + min(3, room // ask)))
        free = room - asks * ask
        cuts = [0, *sorted(int(c) for c in rng.integers(0, free + 1, asks)), free]
        yield self.text(source, cuts[1])
        yield from self.phrases.needle(key, self.filler)
        for start, end in itertools.pairwise(cuts[1:]):
            yield self.text(source, end - start)
            yield from self.phrases.ask(key, self.filler)

    def keys(self, rng: np.random.Generator, source: Iterator[int]) -> Iterator[Span]:
        """Episode after episode: a needle and one or two questions about it, with a little text between."""
        left = self.plan.length + 1
        while left > 0:
            key = self.phrases.key(rng, held_out=False)
            yield self.text(source, gap := int(rng.integers(0, self.gap + 1)))
            yield from self.phrases.needle(key, self.filler)
            left -= gap + self.phrases.needle_size
            for _ in range(int(rng.integers(1, 3))):
                yield self.text(source, gap := int(rng.integers(0, self.gap + 1)))
                yield from self.phrases.ask(key, self.filler)
                left -= gap + self.phrases.ask_size

    def repeated(self, rng: np.random.Generator, text_S: np.ndarray) -> Iterator[Span]:
        """Segments of random ids, or of shuffled text, each several times; what is new, and where it starts again,
        is free.
        """
        left, most = len(text_S), self.segment or len(text_S) // 2
        while left > 0:
            count = int(rng.integers(4, most + 1))
            start = int(rng.integers(0, len(text_S) - count + 1))
            random = rng.random() < 0.5
            vocab = self.plan.store.vocab
            segment = rng.integers(4, vocab, count) if random else rng.permutation(text_S[start : start + count])
            times = int(rng.integers(1, 4)) if self.segment else left // count
            yield segment, 0.0
            yield segment[:1], 0.0
            yield np.concatenate([segment[1:], *[segment] * times]), 1.0
            left -= (times + 2) * count

    def drilled(self, rng: np.random.Generator, pool: TaskExampleSource, text_S: np.ndarray) -> Iterator[Span]:
        """Whole drills as long as one fits, in random order, then text: a drill that is cut teaches nothing."""
        left, drawn = len(text_S), []
        while drill := pool.draw(rng, left):
            drawn.append(drill)
            left -= len(drill.question) + len(drill.answer)
        for k in rng.permutation(len(drawn)):
            yield drawn[k].question, self.filler
            yield drawn[k].answer, self.answer
        yield text_S[:left], self.filler
