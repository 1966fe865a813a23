"""Pass-key sentences as token ids, shared by training rows and evaluation prompts."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from longjax.data.tokenizer import Tokenizer

BEFORE, BETWEEN, AFTER = "\nThe pass key is ", ". Remember it. ", " is the pass key.\n"
QUESTION = "\nWhat is the pass key? The pass key is "
SENTENCES = (
    "The pass key is 49283. Remember it. 49283 is the pass key.",
    "What is the pass key? The pass key is 49283",
)
DIGITS = 5  # of a key
Span = tuple[Sequence[int] | np.ndarray, float]  # ids and their loss weight


@dataclasses.dataclass(frozen=True)
class PasskeyText:
    """The token ids of the sentences above, between which the digits of a key are put.

    Attributes:
      before, between, after: the needle's text before, between and after the two copies of the key.
      question: the text before the answer.
      digits: ids of the digits 0 to 9.

    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    question: tuple[int, ...]
    digits: tuple[int, ...]

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> "PasskeyText":
        """Encodes the sentences. Raises ValueError if the tokenizer has no tokens for single digits."""
        digits = [tokenizer.encode_inside(digit) for digit in "0123456789"]
        if any(len(ids) != 1 for ids in digits):
            raise ValueError(f"{tokenizer.path} has no tokens for single digits, so that keys cannot be scored by them")
        before, between, after, question = map(tokenizer.encode_inside, (BEFORE, BETWEEN, AFTER, QUESTION))
        return cls(before, between, after, question, tuple(i for (i,) in digits))

    def draw_key(self, rng: np.random.Generator, held_out: bool) -> list[int]:
        """Returns the ids of a random key: one divisible by 7 if `held_out`, which training never uses, else another.

        Its digits differ, so that each of them determines the next one.
        """
        while True:
            digits = [int(d) for d in rng.permutation(10)[:DIGITS]]
            if (int("".join(map(str, digits))) % 7 == 0) == held_out:
                return [self.digits[d] for d in digits]

    def needle_spans(self, key: Sequence[int], text_weight: float = 1.0) -> list[Span]:
        """Returns the needle: the first copy of the key, which is unpredictable, has weight 0, the second one 1."""
        before, between, after = ((ids, text_weight) for ids in (self.before, self.between, self.after))
        return [before, (key, 0.0), between, (key, 1.0), after]

    def question_spans(self, key: Sequence[int], text_weight: float = 1.0) -> list[Span]:
        """Returns the question with the key as its answer, of weight 1."""
        return [(self.question, text_weight), (key, 1.0)]

    @property
    def needle_size(self) -> int:
        """Tokens of the needle."""
        return len(self.before) + len(self.between) + len(self.after) + 2 * DIGITS

    @property
    def question_size(self) -> int:
        """Tokens of the question with its answer."""
        return len(self.question) + DIGITS

    def prompt(
        self, rng: np.random.Generator, source: np.ndarray, length: int, depth: float, held_out: bool = True
    ) -> np.ndarray:
        """Returns a text with a needle, then the question and the key.

        Args:
          rng: draws the key and the text.
          source: token ids; a random stretch of them is the text.
          length: of the whole prompt, T.
          depth: where the needle is in the text, from 0 (its start) to 1 (its end).
          held_out: whether the key is one that training never uses.

        Returns:
          tokens_T, int32; the last DIGITS of them are the key.

        Raises:
          ValueError: the length is too short, or the source is.

        """
        key, filler = self.draw_key(rng, held_out), length - self.needle_size - self.question_size
        if filler < 0:
            raise ValueError(f"a passkey prompt needs {length - filler} tokens: no room in {length}")
        if len(source) < filler:
            raise ValueError(f"a passkey prompt of {length} needs {filler} tokens of text: there are {len(source)}")
        start = int(rng.integers(0, len(source) - filler + 1))
        text, cut = source[start : start + filler], round(depth * filler)
        spans = [(text[:cut], 1.0), *self.needle_spans(key), (text[cut:], 1.0), *self.question_spans(key)]
        return concat_spans(spans, length)[0]


def concat_spans(spans: Sequence[Span], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Joins spans and cuts them after `size` tokens.

    Returns:
      ids_S, int32, and weights_S, float32.

    """
    ids_S = np.concatenate([np.asarray(ids, np.int32) for ids, _ in spans])[:size]
    weights_S = np.concatenate([np.full(len(ids), weight, np.float32) for ids, weight in spans])[:size]
    assert len(ids_S) == size, "too few spans"
    return ids_S, weights_S
