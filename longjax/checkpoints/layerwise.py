"""Our parameters a layer at a time: out of a checkpoint's tensors, and back into them.

A leaf is (our name, layer), with layer None for what is outside the layers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from longjax.checkpoints import param_mapping
from longjax.checkpoints.families import weight_table
from longjax.checkpoints.tensor_source import Tensors
from longjax.config import ModelConfig
from longjax.model.llama import global_shapes, layer_shapes


class Leaf(NamedTuple):
    name: str
    layer: int | None = None


def leaves(cfg: ModelConfig) -> Iterator[Leaf]:
    """All of a model: what is outside the layers, then each kind of weight, layer by layer."""
    yield from map(Leaf, global_shapes(cfg))
    for name in layer_shapes(cfg):
        yield from (Leaf(name, layer) for layer in range(cfg.layers))


def shape(leaf: Leaf, cfg: ModelConfig) -> tuple[int, ...]:
    return (global_shapes(cfg) | layer_shapes(cfg))[leaf.name]


def hf_name(leaf: Leaf, cfg: ModelConfig) -> str:
    """-> the tensor that it is in."""
    return weight_table(cfg)[leaf.name].hf_name.format(leaf.layer)


def axis_order(leaf: Leaf, cfg: ModelConfig) -> tuple[int, ...]:
    """-> for each of our axes, which one it is in the file, where all axes are apart."""
    flat = weight_table(cfg)[leaf.name].axes.replace(" ", "")
    return tuple(flat.index(axis) for axis in leaf.name.rsplit("_", 1)[1])


def is_stored(tensors: Tensors, leaf: Leaf, cfg: ModelConfig, some: slice = slice(None)) -> np.ndarray:
    """-> the leaf with all axes apart, in the order of the file; `some` of the first. Names are those of our tables."""
    entry, size = weight_table(cfg)[leaf.name], param_mapping.sizes(cfg)
    count, *rest = (size[axis] for axis in entry.axes.replace(" ", ""))
    rows = math.prod(size[axis] for axis in entry.axes.split()[0][1:])  # of theirs for one step of the first axis
    start, stop, _ = some.indices(count)
    first = entry.part * count
    x = tensors.read(hf_name(leaf, cfg), slice((first + start) * rows, (first + stop) * rows))
    return x.reshape([stop - start, *rest])


def read_leaf(tensors: Tensors, leaf: Leaf, cfg: ModelConfig) -> np.ndarray:
    """-> the leaf with our axes."""
    return contiguous(is_stored(tensors, leaf, cfg).transpose(axis_order(leaf, cfg)))


def contiguous(x: np.ndarray, block: int = 128) -> np.ndarray:
    """A copy in the order of its axes: as bits, since NumPy is slow with bfloat16, and in blocks that stay in the
    cache; five times as fast as np.ascontiguousarray on a large transposed matrix.
    """
    bits = x.view(f"u{x.dtype.itemsize}")
    copy = np.empty(x.shape, bits.dtype)
    for start in range(0, x.shape[-1], block):
        copy[..., start : start + block] = bits[..., start : start + block]
    return copy.view(x.dtype)


@dataclasses.dataclass(frozen=True)
class HfTensor:
    """Parameters by Hugging Face's names, one on the host at a time: a `Tensors`.

    Attributes:
      leaf: one of our parameters with our axes.
      dtype: its type, without reading it.
      cfg: their model.

    """

    leaf: Callable[[Leaf], np.ndarray]
    dtype: Callable[[Leaf], np.dtype]
    cfg: ModelConfig

    @functools.cached_property
    def pieces(self) -> dict[str, list[param_mapping.Piece]]:
        return param_mapping.pieces(self.cfg)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: param_mapping.their_shape(members, self.cfg) for name, members in self.pieces.items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        if rows == slice(0, 0):  # asks for the type alone
            first = self.pieces[name][0]
            shape = param_mapping.their_shape([first], self.cfg)
            return np.empty((0, *shape[1:]), self.dtype(Leaf(first.name, first.layer)))
        parts = [self._part(piece) for piece in self.pieces[name]]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[rows]

    def _part(self, piece: param_mapping.Piece) -> np.ndarray:
        leaf = Leaf(piece.name, piece.layer)
        flat = self.leaf(leaf).transpose(np.argsort(axis_order(leaf, self.cfg)))
        return contiguous(flat).reshape(param_mapping.their_shape([piece], self.cfg))
