"""Training rows that teach recall: pass keys asked for later, repeated segments, and task examples.

Tiny models learn to look back from text alone only after far more steps than a small study has, and a study of long
context needs a model that looks back. Every row is a pure function of the seed and its number.
Letters: T tokens of a row, S = T + 1 with the last target, B rows.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from longjax.data.passkey_text import PasskeyText, Span, concat_spans
from longjax.data.plan import Plan
from longjax.data.rows import RowBatch
from longjax.files import fingerprint_json

GOLDEN = 0.6180339887498949  # fractional parts of its multiples spread evenly over any range of consecutive ones


class TaskExample(NamedTuple):
    """A question and its best answer, as token ids."""

    question: np.ndarray
    answer: np.ndarray


class TaskExampleSource(Protocol):
    """A source of task examples, see longjax/study/task_examples."""

    @property
    def sha256(self) -> str:
        """Hash of all examples."""
        ...

    def draw(self, rng: np.random.Generator, room: int) -> TaskExample | None:
        """Returns a random example of at most `room` tokens; None if there is none."""
        ...


@dataclasses.dataclass(frozen=True)
class RecallMixture:
    """A data source that turns a share of a plan's rows into recall rows. Row i is made from the plan's i-th row.

    Attributes:
      plan: the text of all rows, and the filler between needles and questions.
      passkey_text: the sentences of pass-key rows.
      passkey: share of rows with pass keys.
      repeat: share of rows with repeated segments.
      long: share of pass-key rows with a single key; the others hold several short episodes.
      filler: loss weight of text and sentences around keys, and of the task examples' questions.
      gap: maximum number of filler tokens in a short episode.
      segment: maximum number of tokens of a repeated segment; None: one segment per row, of up to half of it.
      seed: of all random choices.
      task_examples: questions with answers; None: there are none.
      task_example_share: share of rows with task examples.
      answer_weight: loss weight of their answers, which are a few tokens among many.

    """

    plan: Plan
    passkey_text: PasskeyText
    passkey: float = 0.35
    repeat: float = 0.25
    long: float = 0.5
    filler: float = 0.3
    gap: int = 24
    segment: int | None = None
    seed: int = 0
    task_examples: TaskExampleSource | None = None
    task_example_share: float = 0.0
    answer_weight: float = 4.0

    def __post_init__(self):
        if min(shares := (self.passkey, self.repeat, self.task_example_share)) < 0 or sum(shares) > 1:
            raise ValueError(
                f"passkey={self.passkey}, repeat={self.repeat} and task_examples={self.task_example_share} are "
                "shares: at most 1 together"
            )
        assert self.task_examples or not self.task_example_share
        needed = self.passkey_text.needle_size + self.passkey_text.question_size
        if self.passkey and self.plan.length < needed:
            raise ValueError(f"--length={self.plan.length} is too short for a pass key row: it needs {needed} tokens")

    @property
    def sha256(self) -> str:
        """Hash of all settings."""
        text = self.passkey_text
        settings = {  # with the keys of the first release, so that the rows of older runs have the same hash
            "plan": self.plan.sha256, "drills": self.task_examples and self.task_examples.sha256,
            "drill_share": self.task_example_share, "passkey": self.passkey, "repeat": self.repeat, "long": self.long,
            "filler": self.filler, "gap": self.gap, "segment": self.segment, "seed": self.seed,
            "answer": self.answer_weight,
            "phrases": {
                "before": text.before, "between": text.between, "after": text.after, "question": text.question,
                "digits": text.digits,
            },
        }  # fmt: skip
        return fingerprint_json(settings)

    @property
    def length(self) -> int:
        """Tokens per row, T."""
        return self.plan.length

    def __call__(self, first: int, count: int) -> RowBatch:
        """Returns rows first to first + count - 1 of the training order."""
        text_BS = self.plan(first, count).tokens_BS
        rows = [self.make_row(first + b, text_BS[b]) for b in range(count)]
        tokens_BS, weights_BS = (np.stack(x) for x in zip(*rows, strict=True))
        return RowBatch(tokens_BS, weights_BS[:, 1:])

    def make_row(self, i: int, text_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids_S and weights_S of row i, made from its text."""
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, i))))
        kind = (i + 0.5) * GOLDEN % 1
        if kind < self.passkey:
            episodes = self._long_episode if rng.random() < self.long else self._short_episodes
            return concat_spans([*episodes(rng, iter(text_S))], len(text_S))
        if kind < self.passkey + self.repeat:
            return concat_spans([*self._repeated_segments(rng, text_S)], len(text_S))
        if self.task_examples and kind < self.passkey + self.repeat + self.task_example_share:
            return concat_spans([*self._examples(rng, self.task_examples, text_S)], len(text_S))
        return text_S, np.ones(len(text_S), np.float32)

    def _filler(self, source: Iterator[int], count: int) -> Span:
        return [*itertools.islice(source, int(count))], self.filler

    def _long_episode(self, rng: np.random.Generator, source: Iterator[int]) -> Iterator[Span]:
        """Yields text, the needle, more text, and one to three questions, the last of them at the end of the row."""
        text, question_size, size = self.passkey_text, self.passkey_text.question_size, self.plan.length + 1
        key = text.draw_key(rng, held_out=False)
        room = size - text.needle_size
        questions = int(rng.integers(1, 1 + min(3, room // question_size)))
        free = room - questions * question_size
        cuts = [0, *sorted(int(c) for c in rng.integers(0, free + 1, questions)), free]
        yield self._filler(source, cuts[1])
        yield from text.needle_spans(key, self.filler)
        for start, end in itertools.pairwise(cuts[1:]):
            yield self._filler(source, end - start)
            yield from text.question_spans(key, self.filler)

    def _short_episodes(self, rng: np.random.Generator, source: Iterator[int]) -> Iterator[Span]:
        """Yields episodes of a needle and one or two questions about it, with a little text between them."""
        left, text = self.plan.length + 1, self.passkey_text
        while left > 0:
            key = text.draw_key(rng, held_out=False)
            yield self._filler(source, gap := int(rng.integers(0, self.gap + 1)))
            yield from text.needle_spans(key, self.filler)
            left -= gap + text.needle_size
            for _ in range(int(rng.integers(1, 3))):
                yield self._filler(source, gap := int(rng.integers(0, self.gap + 1)))
                yield from text.question_spans(key, self.filler)
                left -= gap + text.question_size

    def _repeated_segments(self, rng: np.random.Generator, text_S: np.ndarray) -> Iterator[Span]:
        """Yields segments of random ids or of shuffled text, each several times.

        The first copy and the first token of the second one, which are unpredictable, have no loss.
        """
        left, limit = len(text_S), self.segment or len(text_S) // 2
        while left > 0:
            count = int(rng.integers(4, limit + 1))
            start = int(rng.integers(0, len(text_S) - count + 1))
            is_random = rng.random() < 0.5
            vocab = self.plan.store.vocab
            segment = rng.integers(4, vocab, count) if is_random else rng.permutation(text_S[start : start + count])
            times = int(rng.integers(1, 4)) if self.segment else left // count
            yield segment, 0.0
            yield segment[:1], 0.0
            yield np.concatenate([segment[1:], *[segment] * times]), 1.0
            left -= (times + 2) * count

    def _examples(self, rng: np.random.Generator, source: TaskExampleSource, text_S: np.ndarray) -> Iterator[Span]:
        """Yields whole task examples as long as one fits, in random order, then text: a cut example teaches nothing."""
        left, drawn = len(text_S), []
        while example := source.draw(rng, left):
            drawn.append(example)
            left -= len(example.question) + len(example.answer)
        for k in rng.permutation(len(drawn)):
            yield drawn[k].question, self.filler
            yield drawn[k].answer, self.answer_weight
        yield text_S[:left], self.filler
