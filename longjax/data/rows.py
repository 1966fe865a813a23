"""Training rows, and where they come from: what the trainer knows of data.

A source is a pure function of the rows' numbers. Resuming needs one integer, the rows seen so far, and any batch
size and any number of hosts read the same rows. Letters: B rows, T tokens, S = T + 1 with the last target.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from longjax.files import fingerprint_json


class RowBatch(NamedTuple):
    """Some rows of the training order.

    Attributes:
      tokens_BS: int32.
      weights_BT: float32, of the loss of predicting tokens[b, t + 1]; 0 masks it.
      start_BT: int32, where in the row the document of token t begins; None: a row is one text, whatever is in it.

    """

    tokens_BS: np.ndarray
    weights_BT: np.ndarray
    start_BT: np.ndarray | None = None


class DataSource(Protocol):
    """Rows number first to first + count - 1 of a training order that never ends."""

    @property
    def length(self) -> int:
        """Tokens of a row, T."""
        ...

    @property
    def sha256(self) -> str:
        """Of all that determines the rows."""
        ...

    def __call__(self, first: int, count: int) -> RowBatch: ...


@dataclasses.dataclass(frozen=True)
class StagedSource:
    """A curriculum: sources one after the other. Each is asked for the rows' numbers in the whole training.

    Attributes:
      stages: (first row that is not of this stage, its source); the last source goes on after its end.

    """

    stages: tuple[tuple[int, DataSource], ...]

    def __post_init__(self):
        check_lengths([source for _, source in self.stages])

    @property
    def length(self) -> int:
        return self.stages[0][1].length

    @property
    def sha256(self) -> str:
        return fingerprint_json([(end, source.sha256) for end, source in self.stages])

    def __call__(self, first: int, count: int) -> RowBatch:
        ends = [end for end, _ in self.stages[:-1]] + [first + count]
        parts, start = [], first
        for end, (_, source) in zip(ends, self.stages, strict=True):
            if start < (stop := min(end, first + count)):
                parts.append(source(start, stop - start))
                start = stop
        return join(parts)


@dataclasses.dataclass(frozen=True)
class OffsetSource:
    """A source that begins with its first row at row number `by` of the training."""

    source: DataSource
    by: int

    @property
    def length(self) -> int:
        return self.source.length

    @property
    def sha256(self) -> str:
        return fingerprint_json([self.source.sha256, self.by])

    def __call__(self, first: int, count: int) -> RowBatch:
        return self.source(first - self.by, count)


def check_lengths(sources: Sequence[DataSource]) -> None:
    if len(lengths := {source.length for source in sources}) > 1:
        raise ValueError(f"--plan: rows of {' and '.join(map(str, sorted(lengths)))} tokens cannot be mixed")


def join(parts: list[RowBatch]) -> RowBatch:
    """-> all rows; where some know their documents, the rows that do not are one document each."""
    masked = any(part.start_BT is not None for part in parts)
    starts = [np.zeros(p.weights_BT.shape, np.int32) if p.start_BT is None else p.start_BT for p in parts]
    return RowBatch(
        np.concatenate([part.tokens_BS for part in parts]),
        np.concatenate([part.weights_BT for part in parts]),
        np.concatenate(starts) if masked else None,
    )
