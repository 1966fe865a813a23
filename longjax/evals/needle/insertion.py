"""Where a needle goes: right behind the full stop before its depth, in ids, as in the study's tester.

needle_in_haystack.py of arXiv:2409.12181's code, after Fu et al. 2024, arXiv:2402.10171; needles one after the other as
in github.com/gkamradt/LLMTest_NeedleInAHaystack. Letters: T tokens.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

from longjax.data.tokenizer import Tokenizer, encode_inside


class Codec(Protocol):
    """Text to ids and back."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclasses.dataclass(frozen=True)
class PlainCodec:
    """Nothing is added to a text."""

    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).tolist()

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)


@dataclasses.dataclass(frozen=True)
class BosCodec:
    """The study's way, by accident: encoding adds the opening id, decoding writes it out, and it is read again.

    Two of them so begin the haystack, and one stands right before the needle, which marks it.
    """

    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        first, *rest = text.split(self.mark)
        ids = [self.tokenizer.bos_id, *self.tokenizer.encode(first).tolist()]
        for part in rest:
            ids += [self.tokenizer.bos_id, *(encode_inside(self.tokenizer, part) if part else ())]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        runs: list[list[int]] = [[]]
        for i in ids:
            if i == self.tokenizer.bos_id:
                runs.append([])
            else:
                runs[-1].append(i)
        return self.tokenizer.decode(runs[0]) + "".join(self.mark + self.later(run) for run in runs[1:])

    def later(self, ids: Sequence[int]) -> str:
        """-> the text of ids that are not the first, with the blank that they may begin with."""
        (*_, before) = encode_inside(self.tokenizer, ".")
        return self.tokenizer.decode([before, *ids])[len(self.tokenizer.decode([before])) :]

    @functools.cached_property
    def mark(self) -> str:
        """The opening token as text; sentencepiece does not write it."""
        return self.tokenizer.decode([self.tokenizer.bos_id]) or "<s>"


def full_stops(tokenizer: Tokenizer) -> set[int]:
    """-> ids of "." behind a word and behind a blank."""
    return {encode_inside(tokenizer, text)[-1] for text in (".", " .")}


def trimmed(text: str, length: int, codec: Codec) -> list[int]:
    """-> ids of a text of `length` tokens; encoding what was decoded may give others than these."""
    ids = codec.encode(text)
    return codec.encode(codec.decode(ids[:length])) if len(ids) > length else ids


def insert(ids: list[int], needles: Sequence[list[int]], depth: float, room: int, stops: set[int]) -> list[int]:
    """-> at most `room` ids with the needles in them.

    Args:
      ids: the haystack.
      needles: the first is at `depth`, the others at even distances behind it.
      depth: in percent; at 100 all are at the end.
      room: for haystack and needles.
      stops: ids that a needle may follow.

    """
    ids = ids[: room - sum(map(len, needles))]
    step = (100 - depth) / len(needles)
    for number, needle in enumerate(needles):
        place = sentence_start_before(ids, depth + number * step, stops)
        ids = [*ids[:place], *needle, *ids[place:]]
    return ids


def sentence_start_before(ids: list[int], depth: float, stops: set[int]) -> int:
    """-> the place behind the last full stop before the depth; the beginning, if there is none."""
    place = int(len(ids) * (depth / 100))
    if depth == 100:
        return place
    while place and ids[place - 1] not in stops:
        place -= 1
    return place
