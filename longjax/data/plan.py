"""Which spans of a store make a training row, and in which order the rows come.

Letters: T tokens of a row, S = T + 1 with the last target, B rows, J spans of a row, I any number of indices.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from longjax import files
from longjax.data.permutation import permute
from longjax.data.rows import RowBatch
from longjax.data.store import TokenStore, open_store, read_json
from longjax.data.tokenizer import Tokenizer
from longjax.files import fingerprint_json


class Spans(NamedTuple):
    """Row r is spans row_ptr[r] to row_ptr[r + 1], one after the other; what is missing at its end is padding.

    Attributes:
      row_ptr: int64, one more than there are rows.
      doc: uint32, the number of the span's document in the store.
      start: int64, address of its first token.
      size: uint32, its tokens.

    """

    row_ptr: np.ndarray
    doc: np.ndarray
    start: np.ndarray
    size: np.ndarray

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for array in self:
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Rows of `length` tokens and their last target. Their order is a keyed permutation, another one every epoch.

    Attributes:
      store: the tokens.
      length: T.
      spans: of all rows.
      doc_mask: whether documents in a row do not see each other; then nobody predicts a document's first token.
      seed: of the order.
      about: how it was made.

    """

    store: TokenStore
    length: int
    spans: Spans
    doc_mask: bool = False
    seed: int = 0
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.spans.row_ptr) - 1

    @functools.cached_property
    def content(self) -> str:
        """-> sha256 of the rows, in whatever order."""
        about = {"store": self.store.sha256, "length": self.length, "doc_mask": self.doc_mask}
        return fingerprint_json(about | {"spans": self.spans.sha256})

    @property
    def sha256(self) -> str:
        return fingerprint_json([self.content, self.seed])

    def order(self, i_I: np.ndarray) -> np.ndarray:
        """-> r_I: which row comes i-th in training; i may exceed the number of rows."""
        epoch_I, place_I = np.divmod(i_I, len(self))
        r_I = np.zeros_like(i_I)
        for epoch in np.unique(epoch_I):
            now_I = epoch_I == epoch
            r_I[now_I] = permute(place_I[now_I], len(self), (self.seed, int(epoch)))
        return r_I

    def __call__(self, first: int, count: int) -> RowBatch:
        return self.rows(self.order(np.arange(first, first + count)))

    def rows(self, r_B: np.ndarray) -> RowBatch:
        """-> rows by their number in the plan."""
        return gather_rows([self] * len(r_B), r_B, self.doc_mask)

    def fill(self, r: int, tokens_S: np.ndarray, weights_S: np.ndarray, start_S: np.ndarray | None) -> None:
        """Writes row r over tokens that are 0, weights that are 1, and starts that are 0."""
        span = slice(*self.spans.row_ptr[r : r + 2].tolist())
        shard_J = self.store.shard(self.spans.start[span])
        local_J = self.spans.start[span] - self.store.bases[shard_J]
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
            starts[begin:] = begin  # padding is a document of its own: nobody sees it, and it sees nobody

    def documents(self, first: int, count: int) -> list[str]:
        """-> the names of the documents in these rows of the training order."""
        parts = [self.spans.row_ptr[r : r + 2].tolist() for r in self.order(np.arange(first, first + count))]
        return list(dict.fromkeys(self.store.name(int(doc)) for a, b in parts for doc in self.spans.doc[a:b]))


def gather_rows(plans: Sequence[Plan], r_B: np.ndarray, doc_mask: bool) -> RowBatch:
    """-> row r[b] of plan number b; with `doc_mask` each knows its documents, or is one."""
    tokens_BS = np.zeros((len(r_B), plans[0].length + 1), np.int32)
    weights_BS = np.ones(tokens_BS.shape, np.float32)
    start_BS = np.zeros(tokens_BS.shape, np.int32) if doc_mask else None
    for b, (plan, r) in enumerate(zip(plans, r_B.tolist(), strict=True)):
        plan.fill(r, tokens_BS[b], weights_BS[b], None if start_BS is None else start_BS[b])
    return RowBatch(tokens_BS, weights_BS[:, 1:], None if start_BS is None else start_BS[:, :-1])


def save_plan(plan: Plan, path: str | os.PathLike) -> None:
    """Writes plan.npz and plan.json into the folder; where the store lies is noted beside its hash."""
    folder, file = pathlib.Path(path), io.BytesIO()
    np.savez(file, **plan.spans._asdict())
    about = plan.about | {
        "kind": "plan", "length": plan.length, "rows": len(plan), "doc_mask": plan.doc_mask,
        "store": os.path.relpath(plan.store.folder.resolve(), folder.resolve()), "store_sha256": plan.store.sha256,
        "sha256": plan.content,
    }  # fmt: skip
    with files.atomic_files(folder) as create:
        create("plan.npz").write(file.getvalue())
        create("plan.json").write((json.dumps(about, indent=1) + "\n").encode())


def load_plan(path: str | os.PathLike, seed: int = 0, tokenizer: Tokenizer | None = None) -> Plan:
    """-> the plan in a folder, after comparing it with its hash and that of its store.

    Args:
      path: the folder.
      seed: of the order of its rows.
      tokenizer: that its store must have been written with; None: any.

    """
    folder = pathlib.Path(path)
    about = read_json(folder / "plan.json", "pack it again")
    store = open_store(folder / about["store"], tokenizer)
    if store.sha256 != about["store_sha256"]:
        raise ValueError(f"{folder / 'plan.json'} was made for another store than {store.folder}: pack it again")
    try:
        with np.load(folder / "plan.npz") as arrays:
            spans = Spans(*(arrays[name] for name in Spans._fields))
    except Exception as error:  # numpy and zipfile have many ways to say that a file is torn
        raise ValueError(f"{folder / 'plan.npz'} is missing or damaged: pack it again") from error
    plan = Plan(store, about["length"], spans, about["doc_mask"], seed, about)
    if plan.content != about["sha256"]:
        raise ValueError(f"{folder / 'plan.npz'} does not match plan.json: pack it again")
    return plan
