"""Fast tokenization of long texts, by encoding each word once."""

import itertools
import re
from collections.abc import Iterator

import numpy as np

from longjax.data.tokenizer import Tokenizer
from longjax.data.tokenizer_backends import SentencePieceBackend

ALONE = re.compile(r"(?<=[^ ]) (?! )")  # a single space inside a text
MAX_CACHED = 200_000  # words; numbers and identifiers do not come again
START = "\n"  # text after it is encoded as inside a text


class TokenCounter:
    """Ids of texts, and their number, put together from those of the words.

    Attributes:
      is_exact: the ids are provably those of the whole text: no piece of a sentencepiece model has a space behind
        something else, so that no merge crosses the space before a word. Ids of other tokenizers must be checked.

    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.first, self.later = tokenizer, {}, {}
        self.skip = len(tokenizer.encode(START))
        self.is_exact = isinstance(tokenizer.backend, SentencePieceBackend) and keeps_words_apart(tokenizer.backend)

    def quick(self, text: str) -> int:
        """Return the sum of the words' numbers of tokens."""
        return sum(map(len, self.parts(text)))

    def whole(self, text: str) -> int:
        """Return the number of tokens of the text, encoded as a whole."""
        return len(self.tokenizer.encode(text))

    def exact(self, text: str) -> int:
        """Return the exact number of tokens, the fastest way."""
        return self.quick(text) if self.is_exact else self.whole(text)

    def ids(self, text: str) -> np.ndarray:
        """Return the ids of a text, int32."""
        if not self.is_exact:
            return self.tokenizer.encode(text)
        return np.fromiter(itertools.chain.from_iterable(self.parts(text)), np.int32)

    def parts(self, text: str) -> Iterator[tuple[int, ...]]:
        """Yield the ids of each word, with the space before it."""
        head, *words = ALONE.split(text) if "  " in text or text[:1] == " " else text.split(" ")
        if len(self.later) > MAX_CACHED:
            self.later.clear()
        if head not in self.first:
            self.first[head] = tuple(self.tokenizer.encode(head).tolist())
        new = [word for word in dict.fromkeys(words) if word not in self.later]  # a set's difference reads all keys
        encoded = self.tokenizer.backend.encode([f"{START} {word}" for word in new])  # in one call
        self.later |= {word: tuple(ids[self.skip :]) for word, ids in zip(new, encoded, strict=True)}
        return itertools.chain([self.first[head]], map(self.later.__getitem__, words))


def keeps_words_apart(backend: SentencePieceBackend) -> bool:
    """Whether no piece of a sentencepiece model has a space behind something else."""
    pieces = (backend.pieces.id_to_piece(i) for i in range(backend.pieces.vocab_size()))
    return not any("\u2581" in piece.lstrip("\u2581") for piece in pieces)
