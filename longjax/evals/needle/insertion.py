"""Insertion of needles into token ids, right behind the full stop before their depth, as in the study's tester.

needle_in_haystack.py of arXiv:2409.12181's code, after Fu et al. 2024, arXiv:2402.10171; needles one after the other as
in github.com/gkamradt/LLMTest_NeedleInAHaystack. Letters: T tokens.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

from longjax.data.tokenizer import Tokenizer


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


def full_stops(tokenizer: Tokenizer) -> set[int]:
    """Return the ids of "." behind a word and behind a blank."""
    return {tokenizer.encode_inside(text)[-1] for text in (".", " .")}


def trim(text: str, length: int, codec: Codec) -> list[int]:
    """Return the ids of a text that is cut to `length` tokens; a second encoding may change their number."""
    ids = codec.encode(text)
    return codec.encode(codec.decode(ids[:length])) if len(ids) > length else ids


def insert(ids: list[int], needles: Sequence[list[int]], depth: float, room: int, stops: set[int]) -> list[int]:
    """Insert needles into a haystack.

    Args:
      ids: the haystack, which is cut to fit.
      needles: the first is at `depth`, the others at even distances behind it.
      depth: in percent; at 100 all are at the end.
      room: limit of the tokens of haystack and needles together.
      stops: ids that a needle may follow.

    Returns:
      At most `room` ids.

    """
    ids = ids[: room - sum(map(len, needles))]
    step = (100 - depth) / len(needles)
    for number, needle in enumerate(needles):
        position = sentence_start_before(ids, depth + number * step, stops)
        ids = [*ids[:position], *needle, *ids[position:]]
    return ids


def sentence_start_before(ids: list[int], depth: float, stops: set[int]) -> int:
    """Return the position behind the last full stop before a depth in percent; 0 if there is none."""
    position = int(len(ids) * (depth / 100))
    if depth == 100:
        return position
    while position and ids[position - 1] not in stops:
        position -= 1
    return position
