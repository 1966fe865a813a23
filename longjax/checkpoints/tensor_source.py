"""Tensors of a checkpoint by Hugging Face's names, wherever they come from; one at a time is in memory."""

from typing import Protocol

import numpy as np


class Tensors(Protocol):
    """Readers of files, and what is made of them (adapters added, Meta's shards joined)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """-> of every tensor there is, before anything is read."""
        ...

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """-> the tensor, or these rows of its first axis, as it was stored. Raises ValueError naming a torn file."""
        ...


class InMemory(dict[str, np.ndarray]):
    """Tensors that are there already."""

    def shapes(self):
        return {name: x.shape for name, x in self.items()}

    def read(self, name, rows=slice(None)):
        return self[name][rows]
