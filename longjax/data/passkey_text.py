"""Pass-key sentences as token ids, shared by training rows and evaluation prompts."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from longjax.data.tokenizer import Tokenizer, encode_inside

BEFORE, BETWEEN, AFTER = "\nThe pass key is ", ". Remember it. ", " is the pass key.\n"
QUESTION = "\nWhat is the pass key? The pass key is "
SENTENCES = (
    "The pass key is 49283. Remember it. 49283 is the pass key.",
    "What is the pass key? The pass key is 49283",
)
DIGITS = 5  # of a key
Span = tuple[Sequence[int] | np.ndarray, float]  # ids and the weight of their loss


@dataclasses.dataclass(frozen=True)
class PasskeyText:
    """The sentences above as ids. `digits` are the ten of them in order."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    question: tuple[int, ...]
    digits: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "PasskeyText":
        digits = [encode_inside(tokenizer, digit) for digit in "0123456789"]
        if any(len(ids) != 1 for ids in digits):
            raise ValueError(f"{tokenizer.path} has no tokens for single digits, so that keys cannot be scored by them")
        before, between, after, question = (
            encode_inside(tokenizer, text) for text in (BEFORE, BETWEEN, AFTER, QUESTION)
        )
        return cls(before, between, after, question, tuple(i for (i,) in digits))

    def key(self, rng: np.random.Generator, held_out: bool) -> list[int]:
        """-> ids of a key of different digits, so that each points to its successor. Every 7th key is held out."""
        while True:
            digits = [int(d) for d in rng.permutation(10)[:DIGITS]]
            if (int("".join(map(str, digits))) % 7 == 0) == held_out:
                return [self.digits[d] for d in digits]

    def needle(self, key: Sequence[int], other: float = 1.0) -> list[Span]:
        """The key is news where it is first said, and certain where it is said again."""
        return [(self.before, other), (key, 0.0), (self.between, other), (key, 1.0), (self.after, other)]

    def ask(self, key: Sequence[int], other: float = 1.0) -> list[Span]:
        return [(self.question, other), (key, 1.0)]

    @property
    def needle_size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after) + 2 * DIGITS

    @property
    def ask_size(self) -> int:
        return len(self.question) + DIGITS

    def prompt(
        self, rng: np.random.Generator, source: np.ndarray, length: int, depth: float, held_out: bool = True
    ) -> np.ndarray:
        """-> tokens_T: text of `source` with a needle at `depth` (0: first), asked for at the end; the key ends it."""
        key, filler = self.key(rng, held_out), length - self.needle_size - self.ask_size
        if filler < 0:
            raise ValueError(f"a passkey prompt needs {length - filler} tokens: no room in {length}")
        if len(source) < filler:
            raise ValueError(f"a passkey prompt of {length} needs {filler} tokens of text: there are {len(source)}")
        start = int(rng.integers(0, len(source) - filler + 1))
        text, cut = source[start : start + filler], round(depth * filler)
        return concat_spans([(text[:cut], 1.0), *self.needle(key), (text[cut:], 1.0), *self.ask(key)], length)[0]


def concat_spans(spans: Sequence[Span], size: int) -> tuple[np.ndarray, np.ndarray]:
    """-> ids_S int32, weights_S float32: the first `size` tokens of the spans one after the other."""
    ids_S = np.concatenate([np.asarray(ids, np.int32) for ids, _ in spans])[:size]
    weights_S = np.concatenate([np.full(len(ids), weight, np.float32) for ids, weight in spans])[:size]
    assert len(ids_S) == size, "too few spans"
    return ids_S, weights_S
