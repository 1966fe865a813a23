"""Rows of a plan as the arrays of one training step, made on the host a few steps ahead."""

import collections
import concurrent.futures
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import numpy as np

from longjax.config import ModelConfig
from longjax.data import RowBatch
from longjax.methods.method import Method

T = TypeVar("T")
PREFETCH_DEPTH = 2  # batches that wait for the devices


def as_batch(rows: RowBatch, method: Method, cfg: ModelConfig) -> dict[str, np.ndarray]:
    """-> tokens_BT, targets_BT, index_BT, weights_BT and start_BT if documents are apart: in the method's pieces,
    with the tokens that it inserts.
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
    """Each row of T tokens and a last target as T / size shorter rows."""
    tokens_BS, weights_BT, start_BT = rows
    if weights_BT.shape[1] % size:
        raise ValueError(f"--piece={size} must divide the rows of {weights_BT.shape[1]} tokens")
    places = range(0, weights_BT.shape[1], size)
    return RowBatch(
        np.concatenate([tokens_BS[:, at : at + size + 1] for at in places]),
        np.concatenate([weights_BT[:, at : at + size] for at in places]),
        None
        if start_BT is None
        else np.concatenate([np.maximum(start_BT[:, at : at + size] - at, 0) for at in places]),
    )


def insert_method_tokens(rows: RowBatch, method: Method, token: int) -> RowBatch:
    """The rows with the method's own tokens, which are predicted as all others are."""
    assert method.insert_tokens
    longer_BS, real_BS = method.insert_tokens(rows.tokens_BS, token)
    weights_BS = np.ones(longer_BS.shape, np.float32)
    weights_BS[real_BS] = np.pad(rows.weights_BT, [(0, 0), (1, 0)]).ravel()
    return RowBatch(
        longer_BS, weights_BS[:, 1:], None if rows.start_BT is None else shift_document_starts(rows.start_BT, real_BS)
    )


def shift_document_starts(start_BT: np.ndarray, real_BS: np.ndarray) -> np.ndarray:
    """Where documents begin once tokens are inserted; an inserted token belongs to the document before it."""
    starts = np.zeros(real_BS.shape, np.int32)
    for row, (start_T, real_S) in enumerate(zip(start_BT, real_BS, strict=True)):
        place_T = np.flatnonzero(real_S)[:-1]  # the last is a target only
        starts[row, place_T] = place_T[start_T]
    return np.maximum.accumulate(starts, axis=1)[:, :-1]


def prefetch(make: Callable[[int], T], steps: Iterable[int]) -> Generator[T]:
    """-> make(step) of all steps in order, a few of them made before they are asked for."""
    waiting: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > PREFETCH_DEPTH:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
