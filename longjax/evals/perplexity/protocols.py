"""Protocols of perplexity: which windows of a text are read, which of their tokens count, and with which weight.

Released evaluators differ in nothing else. Letters: T tokens of a window, S tokens of its part of the text.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np

from longjax.evals.perplexity.text import EvalText
from longjax.evals.requests import Record

X = TypeVar("X")


class Window(NamedTuple):
    """Tokens that a model sees at once.

    Attributes:
      text_S: context and scored tokens; a view, since windows of a long text overlap many times.
      document: index of the document in which the window starts.
      start: position of its first token in that document; in the whole text, for protocols that cross documents.
      piece: windows of one piece share text; pieces are taken to be independent.
      weight: of the window's mean loss in the mean over all windows.
      first_scored: index of the first scored token; those before it are context only.
      offset: of its first token in the window that it was cut from.
      bos_id: id put before the text; -1: none.

    """

    text_S: np.ndarray
    document: int
    start: int
    piece: int
    weight: float = 1.0
    first_scored: int = 1
    offset: int = 0
    bos_id: int = -1

    @property
    def size(self) -> int:
        """Number of tokens, the opening one included."""
        return len(self.text_S) + (self.bos_id >= 0)

    @property
    def tokens_T(self) -> np.ndarray:
        """The tokens, int32, the opening one included."""
        bos = np.array([self.bos_id], np.int32)
        return self.text_S if self.bos_id < 0 else np.concatenate([bos, self.text_S])


class Windows(Protocol):
    """A protocol: cuts a text into windows of at most `length` tokens.

    Attributes:
      name: of the protocol in manifests, whose other settings are the fields.

    """

    name: ClassVar[str]

    def __call__(self, text: EvalText, length: int) -> Sequence[Window]: ...


def protocol_settings(protocol: Any) -> Record:
    """Return a protocol's name and fields, and those of a protocol within it, as manifests hold them."""
    fields = {field.name: getattr(protocol, field.name) for field in dataclasses.fields(protocol)}
    inner = {name: protocol_settings(x) for name, x in fields.items() if dataclasses.is_dataclass(x)}
    return {"protocol": protocol.name, **fields, **inner}


@dataclasses.dataclass(frozen=True)
class Sliding:
    """All predictions of overlapping windows, which cross documents; the last window is left out.

    The study's sliding window (eval_perplexity of arXiv:2409.12181's code: the first ten documents) and LongLoRA's
    (arXiv:2309.12307, eval.py: all). Most tokens are scored length / stride times, with more and with less context.

    Attributes:
      stride: tokens between the starts of windows.
      max_documents: only this many documents from the beginning; None: all.

    """

    name: ClassVar[str] = "sliding"
    stride: int = 256
    max_documents: int | None = None

    def __call__(self, text: EvalText, length: int) -> list[Window]:
        limited = self.max_documents is not None and self.max_documents < len(text.starts)
        ids = text.ids[: text.starts[self.max_documents]] if limited else text.ids
        starts = range(0, len(ids) - length, self.stride)[:-1]
        return [Window(ids[i : i + length], d := text.document(i), i, d) for i in starts]


@dataclasses.dataclass(frozen=True)
class Strided:
    """Each token once, with as much context as fits: only what a window adds to the one before is scored.

    Press et al. 2021, arXiv:2012.15840, appendix B; YaRN's evaluator (arXiv:2309.00071, eval/perplexity.py), whose
    windows weigh equally, however little they score.

    Attributes:
      stride: tokens between the starts of windows; None: they do not overlap.
      bos_id: id before every window; -1: none.
      max_documents: only this many documents from the beginning; None: all.
      truncate: only the first window of a document.
      min_tokens: documents with fewer tokens are left out.
      equal_weights: windows weigh equally, else tokens do.

    """

    name: ClassVar[str] = "strided"
    stride: int | None = 256
    bos_id: int = -1
    max_documents: int | None = None
    truncate: bool = False
    min_tokens: int = 0
    equal_weights: bool = False

    def __call__(self, text: EvalText, length: int) -> list[Window]:
        room = length - (self.bos_id >= 0)
        windows = []
        for d, ids in text.documents(self.max_documents, self.min_tokens):
            ids = ids[1:] if text.has_bos else ids
            ids = ids[:room] if self.truncate else ids
            windows += [self.window(ids, d, *bounds) for bounds in spans(len(ids), room, self.stride or room)]
        return [window for window in windows if window.size > window.first_scored]

    def window(self, ids: np.ndarray, document: int, start: int, end: int, new: int) -> Window:
        """Return the window of ids[start:end], whose last `new` tokens no window before has scored."""
        window = Window(ids[start:end], document, start, document, bos_id=self.bos_id)
        first = max(1, window.size - new)
        return window._replace(first_scored=first, weight=1.0 if self.equal_weights else float(window.size - first))


def spans(count: int, room: int, stride: int) -> list[tuple[int, int, int]]:
    """Cut `count` tokens into windows of `room` tokens.

    Returns:
      (start, end, number of tokens that the window before did not have) of each window.

    """
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

    Lengths thus differ in context and not in text; the windows cut from one longest window are one piece. Ours.

    Attributes:
      longest: of the lengths that are compared.
      max_windows: windows of the longest length, spread evenly over all of them; None: all.

    """

    name: ClassVar[str] = "nested"
    longest: int
    max_windows: int | None = None

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
            for piece, (d, i, ids) in enumerate(evenly_spaced(stretches, self.max_windows))
            for at in range(0, self.longest - length + 1, length)
        ]


@dataclasses.dataclass(frozen=True)
class EvenlySpaced:
    """At most `max_windows` of another protocol's windows, evenly chosen."""

    name: ClassVar[str] = "evenly_spaced"
    of: Windows
    max_windows: int

    def __call__(self, text: EvalText, length: int) -> Sequence[Window]:
        return evenly_spaced(self.of(text, length), self.max_windows)


@dataclasses.dataclass(frozen=True)
class WithoutMemory:
    """Another protocol's windows, with all context dropped every `reset_every` tokens; parts weigh by their lengths.

    With 512 the study's evaluation of Landmark attention (eval_landmark.py), which carries no cache from part to
    part; with the length of training, how a base model sees long texts in figure 3 of arXiv:2409.12181.

    Attributes:
      of: the other protocol, which scores all tokens of its windows.
      reset_every: tokens of a part.

    """

    name: ClassVar[str] = "without_memory"
    of: Windows
    reset_every: int

    def __call__(self, text: EvalText, length: int) -> list[Window]:
        return [part for window in self.of(text, length) for part in independent_parts(window, self.reset_every)]


def independent_parts(window: Window, size: int) -> list[Window]:
    """Cut a window into windows of `size` tokens; the first token of each has no context, so it is not scored."""
    tokens_T, T = window.tokens_T, window.size
    cuts = [(offset, tokens_T[offset : offset + size]) for offset in range(0, T, size)]
    return [
        window._replace(text_S=part_S, bos_id=-1, offset=offset, weight=window.weight * len(part_S) / T)
        for offset, part_S in cuts
        if len(part_S) > 1
    ]


def evenly_spaced(items: Sequence[X], count: int | None) -> Sequence[X]:
    """Choose `count` items evenly, the first and the last among them; None: all."""
    if count is None or len(items) <= count:
        return items
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, count).round().astype(int))]
