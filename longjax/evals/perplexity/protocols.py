"""What each protocol scores: windows of a text, the tokens of each that count, and the weight of its mean loss.

Released evaluators differ in nothing else. Letters: T tokens of a window, S of them in the text.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from longjax.evals.perplexity.text import EvalText

X = TypeVar("X")


class Window(NamedTuple):
    """Tokens that a model sees at once.

    Attributes:
      text_S: context and what is scored; no copy, since windows of a long text overlap many times.
      document: where it begins.
      start: its first token in that document; in the whole text, for protocols that cross documents.
      piece: windows of one piece share text; pieces are taken to be independent.
      weight: of the window's mean loss in the mean over all windows.
      first: tokens before it are context only.
      place: of its first token in the window it is a part of.
      begin: id before the text; -1: none.

    """

    text_S: np.ndarray
    document: int
    start: int
    piece: int
    weight: float = 1.0
    first: int = 1
    place: int = 0
    begin: int = -1

    @property
    def size(self) -> int:
        return len(self.text_S) + (self.begin >= 0)

    @property
    def tokens_T(self) -> np.ndarray:
        opening = np.array([self.begin], np.int32)
        return self.text_S if self.begin < 0 else np.concatenate([opening, self.text_S])


class Windows(Protocol):
    """A protocol."""

    def __call__(self, text: EvalText, length: int) -> Sequence[Window]: ...


@dataclasses.dataclass(frozen=True)
class Sliding:
    """All predictions of overlapping windows, which cross documents; the last window is left out.

    The study's sliding window (eval_perplexity of arXiv:2409.12181's code: the first ten documents) and LongLoRA's
    (arXiv:2309.12307, eval.py: all). Most tokens are scored length / stride times, with more and with less context.

    Attributes:
      stride: tokens between the starts of windows.
      documents: the first so many; None: all.

    """

    stride: int = 256
    documents: int | None = None

    def __call__(self, text: EvalText, length: int) -> list[Window]:
        kept = self.documents is not None and self.documents < len(text.starts)
        ids = text.ids[: text.starts[self.documents]] if kept else text.ids
        starts = range(0, len(ids) - length, self.stride)[:-1]
        return [Window(ids[i : i + length], d := text.document(i), i, d) for i in starts]


@dataclasses.dataclass(frozen=True)
class Strided:
    """Each token once, with as much context as fits: only what a window adds to the one before is scored.

    Press et al. 2021, arXiv:2012.15840, appendix B; YaRN's evaluator (arXiv:2309.00071, eval/perplexity.py), whose
    windows weigh equally, however little they score.

    Attributes:
      stride: tokens between the starts of windows; None: they do not overlap.
      begin: id before every window; -1: none.
      documents: the first so many; None: all.
      truncate: only the first window of a document.
      least: documents with fewer tokens are left out.
      equal: windows weigh equally, else tokens do.

    """

    stride: int | None = 256
    begin: int = -1
    documents: int | None = None
    truncate: bool = False
    least: int = 0
    equal: bool = False

    def __call__(self, text: EvalText, length: int) -> list[Window]:
        room = length - (self.begin >= 0)
        found = []
        for d, ids in text.documents(self.documents, self.least):
            ids = ids[1:] if text.opened else ids
            ids = ids[:room] if self.truncate else ids
            found += [self.window(ids, d, *bounds) for bounds in spans(len(ids), room, self.stride or room)]
        return [window for window in found if window.size > window.first]

    def window(self, ids: np.ndarray, document: int, start: int, end: int, new: int) -> Window:
        """-> the window whose last `new` tokens no window before has scored."""
        window = Window(ids[start:end], document, start, document, begin=self.begin)
        first = max(1, window.size - new)
        return window._replace(first=first, weight=1.0 if self.equal else float(window.size - first))


def spans(count: int, room: int, stride: int) -> list[tuple[int, int, int]]:
    """-> (start, end, tokens that the one before had not) of the windows of `count` tokens."""
    found, before = [], 0
    for start in range(0, count, stride):
        end = min(start + room, count)
        found.append((start, end, end - before))
        before = end
        if end == count:
            break
    return found


@dataclasses.dataclass(frozen=True)
class Nested:
    """The same tokens at every length: windows of the longest, within documents, cut into shorter ones.

    Lengths so differ in context and not in text; the windows of one longest are one piece. Ours.

    Attributes:
      longest: of the lengths that are compared.
      most: windows of the longest, spread over all of them; None: all.

    """

    longest: int
    most: int | None = None

    def __call__(self, text: EvalText, length: int) -> list[Window]:
        stretches = [
            (d, i, ids[i : i + self.longest])
            for d, ids in text.documents()
            for i in range(0, len(ids) - self.longest + 1, self.longest)
        ]
        if len(stretches) < 2:
            raise ValueError(
                f"{text.path} has {len(stretches)} stretches of {self.longest} tokens within a document: "
                "it needs longer documents, or shorter --lengths"
            )
        return [
            Window(ids[at : at + length], d, i + at, piece)
            for piece, (d, i, ids) in enumerate(evenly_spaced(stretches, self.most))
            for at in range(0, self.longest - length + 1, length)
        ]


@dataclasses.dataclass(frozen=True)
class EvenlySpaced:
    """Some of another protocol's windows, evenly chosen.

    Attributes:
      of: the other protocol.
      most: windows.

    """

    of: Windows
    most: int

    def __call__(self, text: EvalText, length: int) -> Sequence[Window]:
        return evenly_spaced(self.of(text, length), self.most)


@dataclasses.dataclass(frozen=True)
class WithoutMemory:
    """Another protocol's windows, all context lost every `size` tokens; parts weigh by their lengths.

    With 512 the study's evaluation of Landmark attention (eval_landmark.py), whose parts get no memory of those
    before; with the length of training, how a base model sees long texts in figure 3 of arXiv:2409.12181.

    Attributes:
      of: the other protocol, which scores all tokens of its windows.
      size: tokens of a part.

    """

    of: Windows
    size: int

    def __call__(self, text: EvalText, length: int) -> list[Window]:
        return [part for window in self.of(text, length) for part in parts(window, self.size)]


def parts(window: Window, size: int) -> list[Window]:
    """-> fresh windows of `size` tokens; the first token of each is predicted from nothing, so it is not scored."""
    tokens_T, T = window.tokens_T, window.size
    cuts = [(place, tokens_T[place : place + size]) for place in range(0, T, size)]
    return [
        window._replace(text_S=part_S, begin=-1, place=place, weight=window.weight * len(part_S) / T)
        for place, part_S in cuts
        if len(part_S) > 1
    ]


def evenly_spaced(every: Sequence[X], most: int | None) -> Sequence[X]:
    """-> `most` of them, evenly chosen, the first and the last among them."""
    if most is None or len(every) <= most:
        return every
    return [every[i] for i in np.unique(np.linspace(0, len(every) - 1, most).round().astype(int))]
