"""Documents to rows: which spans of which documents stand together.

An algorithm is asked with the documents' sizes, in their order, and T; it answers with a list of `Pieces`. A row has
T + 1 tokens, of which the last is only a target, so that the next row begins with it again and every token is
predicted once. Letters: I documents, J spans, N rows.
"""

import bisect
import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from longjax.data.plan import Plan, Spans
from longjax.data.selection import Selection
from longjax.data.store import TokenStore


class Pieces(NamedTuple):
    """Spans of numbered documents, and how many of them make each row."""

    count_N: np.ndarray
    doc_J: np.ndarray
    begin_J: np.ndarray  # within the document
    size_J: np.ndarray


class Algorithm(Protocol):
    def __call__(self, size_I: np.ndarray, length: int) -> Pieces: ...


@dataclasses.dataclass(frozen=True)
class Concat:
    """One stream cut every T tokens: a document that is cut goes on in the next row (arXiv:2409.12181, 2402.10171)."""

    def __call__(self, size_I: np.ndarray, length: int) -> Pieces:
        end_I = np.cumsum(size_I)
        start_I, total = end_I - size_I, int(end_I[-1])
        low_N = np.arange(max(0, total - 1) // length) * length
        high_N = low_N + length + 1
        first_N = np.searchsorted(end_I, low_N, side="right")
        count_N = np.searchsorted(end_I, high_N - 1, side="right") - first_N + 1
        row_J = np.repeat(np.arange(len(low_N)), count_N)
        doc_J = first_N[row_J] + np.arange(len(row_J)) - (np.cumsum(count_N) - count_N)[row_J]
        begin_J, end_J = np.maximum(start_I[doc_J], low_N[row_J]), np.minimum(end_I[doc_J], high_N[row_J])
        return Pieces(count_N, doc_J, begin_J - start_I[doc_J], end_J - begin_J)


@dataclasses.dataclass(frozen=True)
class ConcatTails:
    """Concat, but what is left of a cut document is dropped if it has fewer tokens (ProLong, arXiv:2410.02660).

    What is left does not count the token that ended the row. With min_length = T, the rows of documents that are
    longer than T hold a single document each.
    """

    min_length: int = 0

    def __call__(self, size_I: np.ndarray, length: int) -> Pieces:
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
        return _pieces(counts, spans[: sum(counts)])


@dataclasses.dataclass(frozen=True)
class Single:
    """Rows within one document; what does not fill a row is dropped."""

    def __call__(self, size_I: np.ndarray, length: int) -> Pieces:
        fit_I = np.maximum(size_I - 1, 0) // length
        doc_J = np.repeat(np.arange(len(size_I)), fit_I)
        nth_J = np.arange(len(doc_J)) - (np.cumsum(fit_I) - fit_I)[doc_J]
        ones_J = np.ones(len(doc_J), np.int64)
        return Pieces(ones_J, doc_J, nth_J * length, ones_J * (length + 1))


@dataclasses.dataclass(frozen=True)
class Intact:
    """Every row begins with a document's beginning or goes on with it; the end of the last one is padded."""

    def __call__(self, size_I: np.ndarray, length: int) -> Pieces:
        spans = split_documents(size_I, length)
        return _pieces([1] * len(spans), spans)


@dataclasses.dataclass(frozen=True)
class BestFit:
    """Best-fit decreasing: no document is cut that fits into a row (arXiv:2404.10830)."""

    def __call__(self, size_I: np.ndarray, length: int) -> Pieces:
        spans = sorted(split_documents(size_I, length), key=lambda span: -span[2])
        bins: list[list[int]] = []
        free: list[int] = []  # sizes of the room that is left in some bin, sorted
        having: dict[int, list[int]] = {}  # the bins with so much of it
        for j, (_, _, size) in enumerate(spans):
            at = bisect.bisect_left(free, size)
            if at == len(free):
                bins.append([])
                chosen, room = len(bins) - 1, length + 1
            else:
                room = free[at]
                chosen = having[room].pop()
                if not having[room]:
                    del free[at]
            bins[chosen].append(j)
            if left := room - size:
                if not having.setdefault(left, []):
                    bisect.insort(free, left)
                having[left].append(chosen)
        return _pieces([len(b) for b in bins], [spans[j] for b in bins for j in b])


@dataclasses.dataclass(frozen=True)
class Whole:
    """Best-fit decreasing of what fits into a row; longer documents are dropped: conversations are never cut."""

    def __call__(self, size_I: np.ndarray, length: int) -> Pieces:
        fits = np.flatnonzero(size_I <= length + 1)
        pieces = BestFit()(size_I[fits], length)
        return pieces._replace(doc_J=fits[pieces.doc_J])


def split_documents(size_I: np.ndarray, length: int) -> list[tuple[int, int, int]]:
    """-> (document, begin, size) of all spans of at most T + 1 tokens, each beginning with its predecessor's last."""
    return [
        (i, at, min(length + 1, size - at))
        for i, size in enumerate(size_I.tolist())
        for at in range(0, max(size - 1, 1), length)
    ]


def _pieces(counts: list[int], spans: list[tuple[int, int, int]]) -> Pieces:
    columns = np.array(spans, np.int64).reshape(-1, 3)
    return Pieces(np.array(counts, np.int64), columns[:, 0], columns[:, 1], columns[:, 2])


def pack(
    store: TokenStore, selection: Selection, algorithm: Algorithm, length: int, doc_mask: bool = False, seed: int = 0
) -> Plan:
    """-> the plan of rows of `length` tokens from the selected documents, in their order."""
    docs = selection.docs[store.docs["length"][selection.docs] > 0]
    size_I = store.docs["length"][docs].astype(np.int64)
    pieces = algorithm(size_I, length) if len(docs) else None
    if pieces is None or not len(pieces.count_N):
        raise ValueError(f"--length={length} is too long: {selection.name} has {size_I.sum()} tokens that no row fits")
    doc = docs[pieces.doc_J]
    row_ptr = np.concatenate([[0], np.cumsum(pieces.count_N)])
    start = store.docs["start"][doc] + pieces.begin_J
    spans = Spans(row_ptr, doc.astype(np.uint32), start, pieces.size_J.astype(np.uint32))
    rows, filled = len(pieces.count_N), int(pieces.size_J.sum())
    used = int(np.count_nonzero(np.bincount(doc)))
    about = {
        "algorithm": dataclasses.asdict(algorithm) | {"name": type(algorithm).__name__},  # pyright: ignore
        "selection": selection.about, "selection_sha256": selection.sha256, "documents": used,
        "dropped_documents": int(np.count_nonzero(np.bincount(docs))) - used,
        "padding": round(1 - filled / (rows * (length + 1)), 6),
    }  # fmt: skip
    return Plan(store, length, spans, doc_mask, seed, about)
