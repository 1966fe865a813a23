"""Tokens of long texts, fast: words are encoded once."""

import itertools
import re
from collections.abc import Iterator

import numpy as np

from longjax.data.tokenizer import Tokenizer
from longjax.data.tokenizer_backends import SentencePieceBackend

ALONE = re.compile(r"(?<=[^ ]) (?! )")  # a space without another beside it, but for the first of a text
KNOWN = 200_000  # words remembered: numbers and identifiers never come again
START = "\n"  # what follows it is encoded as in the midst of a text


class TokenCounter:
    """Ids of texts and their number, put together from those of the words.

    `sure`: they are provably those of the whole. They are when no piece of a sentencepiece model holds a space behind
    something else, for then no merge crosses the space before a word. Other tokenizers' are to be checked.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.first, self.later = tokenizer, {}, {}
        self.skip = len(tokenizer.encode(START))
        self.sure = isinstance(tokenizer.backend, SentencePieceBackend) and never_crosses(tokenizer.backend)

    def quick(self, text: str) -> int:
        """-> the sum of the words' counts."""
        return sum(map(len, self.parts(text)))

    def whole(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def exact(self, text: str) -> int:
        return self.quick(text) if self.sure else self.whole(text)

    def ids(self, text: str) -> np.ndarray:
        """-> what the tokenizer gives, int32."""
        if not self.sure:
            return self.tokenizer.encode(text)
        return np.fromiter(itertools.chain.from_iterable(self.parts(text)), np.int32)

    def parts(self, text: str) -> Iterator[tuple[int, ...]]:
        """-> ids of each word, with the space before it."""
        head, *words = ALONE.split(text) if "  " in text or text[:1] == " " else text.split(" ")
        if len(self.later) > KNOWN:
            self.later.clear()
        if head not in self.first:
            self.first[head] = tuple(self.tokenizer.encode(head).tolist())
        new = [word for word in dict.fromkeys(words) if word not in self.later]  # a set's difference reads all keys
        found = self.tokenizer.backend.encode([f"{START} {word}" for word in new])  # in one call
        self.later |= {word: tuple(ids[self.skip :]) for word, ids in zip(new, found, strict=True)}
        return itertools.chain([self.first[head]], map(self.later.__getitem__, words))


def never_crosses(engine: SentencePieceBackend) -> bool:
    pieces = (engine.pieces.id_to_piece(i) for i in range(engine.vocab))
    return not any("\u2581" in piece.lstrip("\u2581") for piece in pieces)
