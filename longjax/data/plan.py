"""Which rows of a store are trained on, in which order.

A plan is index arithmetic: nothing is stored but its settings. Letters: T tokens of a row, S = T + 1 with the last
target, B rows, I any number of indices.
"""

import dataclasses
import functools

import numpy as np

from longjax.data.permute import permute
from longjax.data.rows import Rows, fingerprint
from longjax.data.store import Store


@dataclasses.dataclass(frozen=True)
class Plan:
    """Rows of `length` tokens and their last target, cut from a split's stream one after the other.

    The order is a keyed permutation, another one every epoch. A plan of longer rows covers the same stream:
    row r of 8 T tokens is rows 8 r to 8 r + 7 of T.
    """

    store: Store
    length: int
    split: str = "train"
    seed: int = 0

    def __post_init__(self):
        if not len(self):
            raise ValueError(
                f"--length={self.length} is too long: the {self.split} split has {len(self.stream)} tokens"
            )

    def __len__(self) -> int:
        return max(0, len(self.stream) - 1) // self.length

    @functools.cached_property
    def stream(self) -> np.ndarray:
        return self.store.stream(self.split)

    @property
    def sha256(self) -> str:
        return fingerprint({"store": self.store.sha256, "split": self.split, "length": self.length, "seed": self.seed})

    def row(self, r: int) -> np.ndarray:
        """-> tokens_S, int32: row r of the stream, in its order."""
        return self.stream[r * self.length : (r + 1) * self.length + 1].astype(np.int32)

    def order(self, i_I: np.ndarray) -> np.ndarray:
        """-> r_I: which row comes i-th in training; i may exceed the number of rows."""
        epoch_I, place_I = np.divmod(i_I, len(self))
        r_I = np.zeros_like(i_I)
        for epoch in np.unique(epoch_I):
            now_I = epoch_I == epoch
            r_I[now_I] = permute(place_I[now_I], len(self), (self.seed, int(epoch)))
        return r_I

    def __call__(self, first: int, count: int) -> Rows:
        tokens_BS = np.stack([self.row(r) for r in self.order(np.arange(first, first + count))])
        return Rows(tokens_BS, np.ones((count, self.length), np.float32))
