"""Plans: which spans of a token store make each training row, and the order of the rows.

Letters: T tokens of a row, S = T + 1 with the last target, B rows, J spans of a row, I any number of indices.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from longjax.data.permutation import permute
from longjax.data.rows import RowBatch
from longjax.data.store import TokenStore
from longjax.files import fingerprint_json


class Spans(NamedTuple):
    """The spans of all rows: row r joins spans row_ptr[r] to row_ptr[r + 1] - 1; a row that they do not fill is padded.

    Attributes:
      row_ptr: int64, one more element than there are rows.
      doc: uint32, number of the span's document in the store.
      start: int64, address of its first token.
      size: uint32, number of its tokens.

    """

    row_ptr: np.ndarray
    doc: np.ndarray
    start: np.ndarray
    size: np.ndarray

    @property
    def sha256(self) -> str:
        """Hash of the four arrays."""
        digest = hashlib.sha256()
        for array in self:
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A data source of rows of `length` tokens and their last target, in an order that differs in every epoch.

    Attributes:
      store: the tokens.
      length: tokens per row, T.
      spans: of all rows.
      doc_mask: whether attention stays within documents; then the loss leaves out each document's first token.
      seed: key of the order.
      metadata: how the plan was packed, for plan.json and people.

    """

    store: TokenStore
    length: int
    spans: Spans
    doc_mask: bool = False
    seed: int = 0
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.spans.row_ptr) - 1

    @functools.cached_property
    def rows_sha256(self) -> str:
        """Hash of the rows, whatever their order."""
        settings = {"store": self.store.sha256, "length": self.length, "doc_mask": self.doc_mask}
        return fingerprint_json(settings | {"spans": self.spans.sha256})

    @property
    def sha256(self) -> str:
        """Hash of the rows and their order."""
        return fingerprint_json([self.rows_sha256, self.seed])

    def order(self, i_I: np.ndarray) -> np.ndarray:
        """Returns r_I, the rows that come i-th in training; i may exceed the number of rows, as epochs repeat them."""
        epoch_I, index_I = np.divmod(i_I, len(self))
        r_I = np.zeros_like(i_I)
        for epoch in np.unique(epoch_I):
            in_epoch_I = epoch_I == epoch
            r_I[in_epoch_I] = permute(index_I[in_epoch_I], len(self), (self.seed, int(epoch)))
        return r_I

    def __call__(self, first: int, count: int) -> RowBatch:
        """Returns rows first to first + count - 1 of the training order."""
        return self.rows(self.order(np.arange(first, first + count)))

    def rows(self, r_B: np.ndarray) -> RowBatch:
        """Returns rows by their number in the plan."""
        return gather_rows([self] * len(r_B), r_B, self.doc_mask)

    def fill_row(self, r: int, tokens_S: np.ndarray, weights_S: np.ndarray, start_S: np.ndarray | None) -> None:
        """Writes row r into arrays of zero tokens, unit weights and zero starts."""
        span = slice(*self.spans.row_ptr[r : r + 2].tolist())
        shard_J = self.store.shard_of(self.spans.start[span])
        local_J = self.spans.start[span] - self.store.shard_starts[shard_J]
        begin, masks, starts = 0, self.store.masks, start_S if self.doc_mask else None
        for k, at, size in zip(shard_J.tolist(), local_J.tolist(), self.spans.size[span].tolist(), strict=True):
            end = begin + size
            tokens_S[begin:end] = self.store.shards[k][at : at + size]
            if masks:
                weights_S[begin:end] = masks[k][at : at + size]
            if starts is not None:
                weights_S[begin] = 0.0
                starts[begin:end] = begin
            begin = end
        weights_S[begin:] = 0.0
        if starts is not None:
            starts[begin:] = begin  # padding is a document of its own: it neither attends nor is attended to

    def documents(self, first: int, count: int) -> list[str]:
        """Returns the names of the documents in rows first to first + count - 1 of the training order."""
        ranges = [self.spans.row_ptr[r : r + 2].tolist() for r in self.order(np.arange(first, first + count))]
        docs = [int(doc) for start, stop in ranges for doc in self.spans.doc[start:stop]]
        return list(dict.fromkeys(self.store.document_name(doc) for doc in docs))


def gather_rows(plans: Sequence[Plan], r_B: np.ndarray, doc_mask: bool) -> RowBatch:
    """Gathers rows of several plans into a batch.

    Args:
      plans: the plan of each row.
      r_B: the number of each row in its plan.
      doc_mask: whether the batch has document starts; a row of a plan without doc_mask is then one document.

    """
    tokens_BS = np.zeros((len(r_B), plans[0].length + 1), np.int32)
    weights_BS = np.ones(tokens_BS.shape, np.float32)
    start_BS = np.zeros(tokens_BS.shape, np.int32) if doc_mask else None
    for b, (plan, r) in enumerate(zip(plans, r_B.tolist(), strict=True)):
        plan.fill_row(r, tokens_BS[b], weights_BS[b], None if start_BS is None else start_BS[b])
    return RowBatch(tokens_BS, weights_BS[:, 1:], None if start_BS is None else start_BS[:, :-1])
