"""Insertion of needles into token ids, right behind the full stop before their depth, as in the study's tester.

needle_in_haystack.py of arXiv:2409.12181's code, after Fu et al. 2024, arXiv:2402.10171; needles one after the other as
in github.com/gkamradt/LLMTest_NeedleInAHaystack. Letters: T tokens.
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import ClassVar, Protocol

from longjax.data.tokenizer import Tokenizer

ENDS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f", "\u0964", "\u061f")  # of sentences, in most scripts
CLOSING = "\"')]}\u201d\u2019\u00bb\u300d\u300f\uff09"  # quotes and brackets that may follow
WINDOW = 6  # tokens whose text is looked at; a character may be several of them


class Codec(Protocol):
    """Encodes text to ids and decodes ids to text."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclasses.dataclass(frozen=True)
class PlainCodec:
    """Adds no token to a text."""

    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).tolist()

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)


@dataclasses.dataclass(frozen=True)
class BosCodec:
    """The codec of the study's code: encoding adds the opening id, decoding writes it as text, and it is encoded again.

    So two of them begin the haystack, and one is right before the needle, which marks it.
    """

    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        first, *rest = text.split(self.mark)
        ids = [self.tokenizer.bos_id, *self.tokenizer.encode(first).tolist()]
        for part in rest:
            ids += [self.tokenizer.bos_id, *(self.tokenizer.encode_inside(part) if part else ())]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        runs: list[list[int]] = [[]]
        for i in ids:
            if i == self.tokenizer.bos_id:
                runs.append([])
            else:
                runs[-1].append(i)
        return self.tokenizer.decode(runs[0]) + "".join(self.mark + self.decode_inside(run) for run in runs[1:])

    def decode_inside(self, ids: Sequence[int]) -> str:
        """Return the text of ids that follow others, with the blank that they may begin with."""
        (*_, before) = self.tokenizer.encode_inside(".")
        return self.tokenizer.decode([before, *ids])[len(self.tokenizer.decode([before])) :]

    @functools.cached_property
    def mark(self) -> str:
        """The opening token as text, which sentencepiece leaves out when it decodes."""
        return self.tokenizer.decode([self.tokenizer.bos_id]) or "<s>"


class SentenceEnd(Protocol):
    """Where a needle may stand.

    Attributes:
      reach: tokens that are searched for an end of a sentence; where there is none, the needle stands at its depth.

    """

    reach: ClassVar[int]

    def __call__(self, ids: list[int], position: int) -> bool:
        """Return whether a sentence ends before the token at this position."""
        ...


@dataclasses.dataclass(frozen=True)
class AfterIds:
    """Behind these ids, as the study's code has it."""

    stops: frozenset[int]
    reach: ClassVar[int] = sys.maxsize

    def __call__(self, ids: list[int], position: int) -> bool:
        return position == 0 or ids[position - 1] in self.stops


@dataclasses.dataclass(frozen=True)
class AfterSentences:
    """Behind the end of a sentence, by the text of the last tokens: before line ends and quotes, and in CJK."""

    tokenizer: Tokenizer
    reach: ClassVar[int] = 128

    def __call__(self, ids: list[int], position: int) -> bool:
        if position == 0:
            return True
        context = ids[max(0, position - WINDOW) : position]
        before = self.tokenizer.decode(context)
        after = self.tokenizer.decode([*context, *ids[position : position + 1]])[len(before) :]
        text = before.rstrip().rstrip(CLOSING)
        inside_number = text.endswith(".") and before.endswith(".") and after[:1].isalnum()  # 3.14, example.org
        return text.endswith(ENDS) and not inside_number


def full_stops(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids of "." behind a word and behind a blank."""
    return frozenset(tokenizer.encode_inside(text)[-1] for text in (".", " ."))


def trim(text: str, length: int, codec: Codec) -> list[int]:
    """Return the ids of a text that is cut to `length` tokens; a second encoding may change their number."""
    ids = codec.encode(text)
    return codec.encode(codec.decode(ids[:length])) if len(ids) > length else ids


def insert(
    ids: list[int], needles: Sequence[list[int]], depth: float, room: int, is_end: SentenceEnd
) -> tuple[list[int], float]:
    """Insert needles into a haystack.

    Args:
      ids: the haystack, which is cut to fit.
      needles: the first is at `depth`, the others at even distances behind it.
      depth: in percent; at 100 all are at the end.
      room: limit of the tokens of haystack and needles together.
      is_end: where a needle may stand.

    Returns:
      At most `room` ids, and the share of the haystack that is before the first needle.

    """
    ids = ids[: room - sum(map(len, needles))]
    step = (100 - depth) / len(needles)
    place = sentence_start_before(ids, depth, is_end) / max(1, len(ids))
    for number, needle in enumerate(needles):
        position = sentence_start_before(ids, depth + number * step, is_end)
        ids = [*ids[:position], *needle, *ids[position:]]
    return ids, place


def sentence_start_before(ids: list[int], depth: float, is_end: SentenceEnd) -> int:
    """Return the position behind the last end of a sentence before a depth in percent; the text's start is one."""
    asked = int(len(ids) * (depth / 100))
    if depth == 100:
        return asked
    return next((i for i in range(asked, max(0, asked - is_end.reach) - 1, -1) if is_end(ids, i)), asked)
