"""Packing: which spans of which documents make a training row.

An algorithm maps the documents' sizes, in their order, and T to the spans of all rows. A row has T + 1 tokens, of which
the last is only a target: the next row begins with it again, so that every token is predicted once.
Letters: I documents, J spans, N rows.
"""

import bisect
import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from longjax.data.plan import Plan, Spans
from longjax.data.selection import Selection
from longjax.data.store import TokenStore


class PackedSpans(NamedTuple):
    """Spans of numbered documents, row by row.

    Attributes:
      count_N: number of spans in each row.
      doc_J: number of the span's document.
      offset_J: its first token within the document.
      size_J: its number of tokens.

    """

    count_N: np.ndarray
    doc_J: np.ndarray
    offset_J: np.ndarray
    size_J: np.ndarray


class PackingAlgorithm(Protocol):
    """Distributes documents over rows."""

    def __call__(self, size_I: np.ndarray, length: int) -> PackedSpans:
        """Returns the spans of all rows.

        Args:
          size_I: tokens of each document, in the order in which they are packed.
          length: tokens per row without the last target, T.

        """
        ...


@dataclasses.dataclass(frozen=True)
class Concat:
    """One stream cut every T tokens: a cut document continues in the next row (arXiv:2409.12181, 2402.10171)."""

    def __call__(self, size_I: np.ndarray, length: int) -> PackedSpans:
        end_I = np.cumsum(size_I)
        start_I, total = end_I - size_I, int(end_I[-1])
        low_N = np.arange(max(0, total - 1) // length) * length
        high_N = low_N + length + 1
        first_N = np.searchsorted(end_I, low_N, side="right")
        count_N = np.searchsorted(end_I, high_N - 1, side="right") - first_N + 1
        row_J = np.repeat(np.arange(len(low_N)), count_N)
        doc_J = first_N[row_J] + np.arange(len(row_J)) - (np.cumsum(count_N) - count_N)[row_J]
        begin_J, end_J = np.maximum(start_I[doc_J], low_N[row_J]), np.minimum(end_I[doc_J], high_N[row_J])
        return PackedSpans(count_N, doc_J, begin_J - start_I[doc_J], end_J - begin_J)


@dataclasses.dataclass(frozen=True)
class ConcatTails:
    """Concat without short tails: the rest of a cut document is dropped if it is short (ProLong, arXiv:2410.02660).

    With min_length = T, the rows of documents that are longer than T hold a single document each.

    Attributes:
      min_length: a rest of at most this many tokens is dropped; the token that ended the row does not count.

    """

    min_length: int = 0

    def __call__(self, size_I: np.ndarray, length: int) -> PackedSpans:
        counts, spans, count, room = [], [], 0, length + 1
        for i, size in enumerate(size_I.tolist()):
            at = 0
            while at < size and (at == 0 or size - at > self.min_length):
                take = min(room, size - at)
                spans.append((i, at, take))
                count, room, at = count + 1, room - take, at + take
                if room == 0:
                    counts.append(count)
                    count, room, at = 0, length + 1, at - 1
        return _packed(counts, spans[: sum(counts)])


@dataclasses.dataclass(frozen=True)
class Single:
    """Rows within one document; a rest that does not fill a row is dropped."""

    def __call__(self, size_I: np.ndarray, length: int) -> PackedSpans:
        fit_I = np.maximum(size_I - 1, 0) // length
        doc_J = np.repeat(np.arange(len(size_I)), fit_I)
        nth_J = np.arange(len(doc_J)) - (np.cumsum(fit_I) - fit_I)[doc_J]
        ones_J = np.ones(len(doc_J), np.int64)
        return PackedSpans(ones_J, doc_J, nth_J * length, ones_J * (length + 1))


@dataclasses.dataclass(frozen=True)
class Intact:
    """Every row holds one document or a part of one; a document's last row is padded."""

    def __call__(self, size_I: np.ndarray, length: int) -> PackedSpans:
        spans = split_documents(size_I, length)
        return _packed([1] * len(spans), spans)


@dataclasses.dataclass(frozen=True)
class BestFit:
    """Best-fit decreasing: documents that fit into a row are not cut (arXiv:2404.10830)."""

    def __call__(self, size_I: np.ndarray, length: int) -> PackedSpans:
        spans = sorted(split_documents(size_I, length), key=lambda span: -span[2])
        bins: list[list[int]] = []
        rooms: list[int] = []  # the different amounts of free room, sorted
        bins_of: dict[int, list[int]] = {}  # the bins with that much free room
        for j, (_, _, size) in enumerate(spans):
            at = bisect.bisect_left(rooms, size)
            if at == len(rooms):
                bins.append([])
                chosen, room = len(bins) - 1, length + 1
            else:
                room = rooms[at]
                chosen = bins_of[room].pop()
                if not bins_of[room]:
                    del rooms[at]
            bins[chosen].append(j)
            if left := room - size:
                if not bins_of.setdefault(left, []):
                    bisect.insort(rooms, left)
                bins_of[left].append(chosen)
        return _packed([len(b) for b in bins], [spans[j] for b in bins for j in b])


@dataclasses.dataclass(frozen=True)
class Whole:
    """Best-fit decreasing of documents that fit into a row; longer ones are dropped, so that nothing is ever cut."""

    def __call__(self, size_I: np.ndarray, length: int) -> PackedSpans:
        fits = np.flatnonzero(size_I <= length + 1)
        packed = BestFit()(size_I[fits], length)
        return packed._replace(doc_J=fits[packed.doc_J])


def split_documents(size_I: np.ndarray, length: int) -> list[tuple[int, int, int]]:
    """Cuts every document into spans of at most T + 1 tokens; each begins with the last token of the one before.

    Returns:
      (document, offset of its first token, size) of all spans.

    """
    return [
        (i, at, min(length + 1, size - at))
        for i, size in enumerate(size_I.tolist())
        for at in range(0, max(size - 1, 1), length)
    ]


def _packed(counts: list[int], spans: list[tuple[int, int, int]]) -> PackedSpans:
    columns = np.array(spans, np.int64).reshape(-1, 3)
    return PackedSpans(np.array(counts, np.int64), columns[:, 0], columns[:, 1], columns[:, 2])


def pack(
    store: TokenStore,
    selection: Selection,
    algorithm: PackingAlgorithm,
    length: int,
    doc_mask: bool = False,
    seed: int = 0,
) -> Plan:
    """Plans training rows.

    Args:
      store: the tokens.
      selection: the documents, in the order in which they are packed.
      algorithm: how documents are distributed over rows.
      length: tokens per row, T.
      doc_mask: whether attention stays within documents.
      seed: key of the order of rows.

    Raises:
      ValueError: the selection is of another store, or not a single row is filled.

    """
    if selection.metadata.get("store", store.sha256) != store.sha256:
        raise ValueError(f"{selection.name} was chosen from another store than what {store.folder} holds: select again")
    docs = selection.docs[store.docs["length"][selection.docs] > 0]
    size_I = store.docs["length"][docs].astype(np.int64)
    packed = algorithm(size_I, length) if len(docs) else None
    if packed is None or not len(packed.count_N):
        raise ValueError(f"--length={length} is too long: {selection.name} has {size_I.sum()} tokens that no row fits")
    doc = docs[packed.doc_J]
    row_ptr = np.concatenate([[0], np.cumsum(packed.count_N)])
    start = store.docs["start"][doc] + packed.offset_J
    spans = Spans(row_ptr, doc.astype(np.uint32), start, packed.size_J.astype(np.uint32))
    rows, filled = len(packed.count_N), int(packed.size_J.sum())
    used = int(np.count_nonzero(np.bincount(doc)))
    metadata = {
        "algorithm": dataclasses.asdict(algorithm) | {"name": type(algorithm).__name__},  # pyright: ignore
        "selection": selection.metadata, "selection_sha256": selection.sha256, "documents": used,
        "dropped_documents": int(np.count_nonzero(np.bincount(docs))) - used,
        "padding": round(1 - filled / (rows * (length + 1)), 6),
    }  # fmt: skip
    return Plan(store, length, spans, doc_mask, seed, metadata)
