"""How many tokens a text has, fast: words are counted once."""

import re

from longjax.engines import SentencePiece
from longjax.tokenizer import Tokenizer

ALONE = re.compile(r"(?<=[^ ]) (?! )")  # a space without another beside it, but for the first of a text
KNOWN = 400_000  # words remembered: numbers and identifiers never come again
START = "\n"  # what follows it is encoded as in the midst of a text


class Counter:
    """Counts of tokens, by adding those of the words.

    `sure`: that is provably the count of the whole. It is when no piece of a sentencepiece model holds a space behind
    something else, for then no merge crosses the space before a word. Other tokenizers' sums are to be checked.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.first, self.later = tokenizer, {}, {}
        self.skip = len(tokenizer.encode(START))
        self.sure = isinstance(tokenizer.engine, SentencePiece) and never_crosses(tokenizer.engine)

    def quick(self, text: str) -> int:
        """-> the sum of the words' counts."""
        head, *words = ALONE.split(text) if "  " in text or text[:1] == " " else text.split(" ")
        if head not in self.first:
            self.first[head] = self.whole(head)
        if len(self.later) > KNOWN:
            self.later.clear()
        new = list(set(words) - self.later.keys())
        counts = map(len, self.tokenizer.engine.encode([f"{START} {word}" for word in new]))  # in one call
        self.later |= {word: count - self.skip for word, count in zip(new, counts, strict=True)}
        return self.first[head] + sum(map(self.later.__getitem__, words))

    def whole(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def exact(self, text: str) -> int:
        return self.quick(text) if self.sure else self.whole(text)


def never_crosses(engine: SentencePiece) -> bool:
    pieces = (engine.pieces.id_to_piece(i) for i in range(engine.vocab))
    return not any("\u2581" in piece.lstrip("\u2581") for piece in pieces)
