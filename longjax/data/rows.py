"""Batches of training rows, and the interface of what yields them: all that the trainer uses of this package.

A source is a pure function of row numbers, so resuming needs one integer, the number of rows seen so far, and any batch
size and any number of hosts read the same rows. Letters: B rows, T tokens, S = T + 1 with the last target.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from longjax.files import fingerprint_json


class RowBatch(NamedTuple):
    """Consecutive rows of the training order.

    Attributes:
      tokens_BS: int32.
      weights_BT: float32, loss weight of predicting tokens[b, t + 1]; 0 masks it.
      start_BT: int32, index in the row of the first token of the document that token t belongs to; None: every row is
        one document.

    """

    tokens_BS: np.ndarray
    weights_BT: np.ndarray
    start_BT: np.ndarray | None = None


class DataSource(Protocol):
    """An endless training order: `source(first, count)` returns rows first to first + count - 1."""

    @property
    def length(self) -> int:
        """Tokens per row, T."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of everything that determines the rows and their order."""
        ...

    def __call__(self, first: int, count: int) -> RowBatch:
        """Returns rows first to first + count - 1."""
        ...


@dataclasses.dataclass(frozen=True)
class StagedSource:
    """A curriculum: several sources, each for a range of row numbers. Sources see the numbers of the whole training.

    Attributes:
      stages: (end of its range of rows, source); the range of the last one never ends.

    """

    stages: tuple[tuple[int, DataSource], ...]

    def __post_init__(self):
        check_lengths([source for _, source in self.stages])

    @property
    def length(self) -> int:
        """Tokens per row, T."""
        return self.stages[0][1].length

    @property
    def sha256(self) -> str:
        """Hash of all stages and their ends."""
        return fingerprint_json([(end, source.sha256) for end, source in self.stages])

    def __call__(self, first: int, count: int) -> RowBatch:
        """Returns rows first to first + count - 1, which may lie in several stages."""
        ends = [end for end, _ in self.stages[:-1]] + [first + count]
        batches, start = [], first
        for end, (_, source) in zip(ends, self.stages, strict=True):
            if start < (stop := min(end, first + count)):
                batches.append(source(start, stop - start))
                start = stop
        return concat_batches(batches)


@dataclasses.dataclass(frozen=True)
class OffsetSource:
    """A source whose row 0 is row number `by` of the training."""

    source: DataSource
    by: int

    @property
    def length(self) -> int:
        """Tokens per row, T."""
        return self.source.length

    @property
    def sha256(self) -> str:
        """Hash of the source and the offset."""
        return fingerprint_json([self.source.sha256, self.by])

    def __call__(self, first: int, count: int) -> RowBatch:
        """Returns rows first to first + count - 1 of the training."""
        return self.source(first - self.by, count)


def check_lengths(sources: Sequence[DataSource]) -> None:
    """Raises ValueError unless the rows of all sources have the same length."""
    if len(lengths := {source.length for source in sources}) > 1:
        raise ValueError(f"--plan: rows of {' and '.join(map(str, sorted(lengths)))} tokens cannot be mixed")


def concat_batches(batches: list[RowBatch]) -> RowBatch:
    """Joins batches; if any of them has document starts, rows without them count as one document each."""
    has_starts = any(batch.start_BT is not None for batch in batches)
    starts = [np.zeros(b.weights_BT.shape, np.int32) if b.start_BT is None else b.start_BT for b in batches]
    return RowBatch(
        np.concatenate([batch.tokens_BS for batch in batches]),
        np.concatenate([batch.weights_BT for batch in batches]),
        np.concatenate(starts) if has_starts else None,
    )
