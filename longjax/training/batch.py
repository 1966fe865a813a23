"""Rows of data as the batch of one training step, prefetched on the host."""

import collections
import concurrent.futures
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import numpy as np

from longjax.config import ModelConfig
from longjax.data import RowBatch
from longjax.methods.method import Method

T = TypeVar("T")
PREFETCH_DEPTH = 2  # batches that are ready before the devices need them


def as_batch(rows: RowBatch, method: Method, cfg: ModelConfig) -> dict[str, np.ndarray]:
    """Returns the batch of some rows, split into the method's row length and with the tokens that it inserts.

    Args:
      rows: tokens with the last target, loss weights, and starts of documents.
      method: the method that is trained.
      cfg: the model; its last token is the one that the method inserts.

    Returns:
      tokens_BT, targets_BT, index_BT (positions in the row) as int32, weights_BT as float32, and start_BT (int32, where
      each token's document starts) if documents do not attend to each other.

    """
    if method.row_length:
        rows = split_rows(rows, method.row_length)
    if method.insert_tokens:
        rows = insert_method_tokens(rows, method, cfg.vocab - 1)
    tokens_BS, weights_BT, start_BT = rows
    index_BT = np.broadcast_to(np.arange(weights_BT.shape[1], dtype=np.int32), weights_BT.shape)
    batch = {"tokens_BT": tokens_BS[:, :-1], "targets_BT": tokens_BS[:, 1:], "index_BT": index_BT}
    batch = {name: x.astype(np.int32) for name, x in batch.items()} | {"weights_BT": weights_BT}
    return batch if start_BT is None else batch | {"start_BT": start_BT}


def split_rows(rows: RowBatch, size: int) -> RowBatch:
    """Splits each row of T tokens and a last target into T / size shorter rows. Raises ValueError if it cannot."""
    tokens_BS, weights_BT, start_BT = rows
    T = weights_BT.shape[1]
    if T % size:
        raise ValueError(f"--row_length={size} must divide the rows of {T} tokens")
    starts = range(0, T, size)
    if start_BT is not None:
        start_BT = np.concatenate([np.maximum(start_BT[:, i : i + size] - i, 0) for i in starts])
    return RowBatch(
        np.concatenate([tokens_BS[:, i : i + size + 1] for i in starts]),
        np.concatenate([weights_BT[:, i : i + size] for i in starts]),
        start_BT,
    )


def insert_method_tokens(rows: RowBatch, method: Method, token: int) -> RowBatch:
    """Inserts the method's token into the rows; inserted tokens are targets as all others are."""
    assert method.insert_tokens
    longer_BS, real_BS = method.insert_tokens(rows.tokens_BS, token)
    weights_BS = np.ones(longer_BS.shape, np.float32)
    weights_BS[real_BS] = np.pad(rows.weights_BT, [(0, 0), (1, 0)]).ravel()
    return RowBatch(
        longer_BS, weights_BS[:, 1:], None if rows.start_BT is None else shift_document_starts(rows.start_BT, real_BS)
    )


def shift_document_starts(start_BT: np.ndarray, real_BS: np.ndarray) -> np.ndarray:
    """Returns where documents start after insertion; an inserted token belongs to the document before it."""
    starts = np.zeros(real_BS.shape, np.int32)
    for row, (start_T, real_S) in enumerate(zip(start_BT, real_BS, strict=True)):
        index_T = np.flatnonzero(real_S)[:-1]  # the last is a target only
        starts[row, index_T] = index_T[start_T]
    return np.maximum.accumulate(starts, axis=1)[:, :-1]


def prefetch(make: Callable[[int], T], steps: Iterable[int]) -> Generator[T]:
    """Yields make(step) of all steps in order; a thread makes PREFETCH_DEPTH of them in advance."""
    pending: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            for step in steps:
                pending.append(pool.submit(make, step))
                if len(pending) > PREFETCH_DEPTH:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
