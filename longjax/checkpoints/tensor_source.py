"""The interface of checkpoint readers: tensors by Hugging Face's names, one in memory at a time."""

from typing import Protocol

import numpy as np


class Tensors(Protocol):
    """Tensors of a checkpoint: files, or what is computed from them (adapters merged, shards of Meta joined)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of every tensor, without reading one."""
        ...

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """Returns a tensor, or rows of its first axis, in its stored type. Raises ValueError naming a damaged file."""
        ...
