"""Our parameters a layer at a time: out of a checkpoint's tensors, and back into them.

A leaf is (our name, layer), with layer None for what is outside the layers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from longjax import convert
from longjax.config import ModelConfig
from longjax.families import table
from longjax.llama import layer_shapes, outer_shapes
from longjax.tensors import Tensors


class Leaf(NamedTuple):
    name: str
    layer: int | None = None


def leaves(cfg: ModelConfig) -> Iterator[Leaf]:
    """All of a model: what is outside the layers, then each kind of weight, layer by layer."""
    yield from map(Leaf, outer_shapes(cfg))
    for name in layer_shapes(cfg):
        yield from (Leaf(name, layer) for layer in range(cfg.layers))


def shape(leaf: Leaf, cfg: ModelConfig) -> tuple[int, ...]:
    return (outer_shapes(cfg) | layer_shapes(cfg))[leaf.name]


def theirs(leaf: Leaf, cfg: ModelConfig) -> str:
    """-> the tensor that it is in."""
    return table(cfg)[leaf.name].theirs.format(leaf.layer)


def outermost(leaf: Leaf, cfg: ModelConfig) -> tuple[int, int]:
    """-> which of our axes changes slowest in their file, and how many rows of theirs one step of it is."""
    first, size = table(cfg)[leaf.name].axes.split()[0], convert.sizes(cfg)
    return leaf.name.rsplit("_", 1)[1].index(first[0]), math.prod(size[a] for a in first[1:])


def read(tensors: Tensors, leaf: Leaf, cfg: ModelConfig, some: slice = slice(None)) -> np.ndarray:
    """-> the leaf with our axes; `some` of its outermost axis. `tensors` are by the names of our tables."""
    entry, (axis, rows) = table(cfg)[leaf.name], outermost(leaf, cfg)
    count = shape(leaf, cfg)[axis]
    start, stop, _ = some.indices(count)
    first = entry.part * count
    x = tensors.read(theirs(leaf, cfg), slice((first + start) * rows, (first + stop) * rows))
    ours, flat, size = leaf.name.rsplit("_", 1)[1], entry.axes.replace(" ", ""), convert.sizes(cfg)
    return x.reshape([stop - start, *(size[a] for a in flat[1:])]).transpose([flat.index(a) for a in ours])


@dataclasses.dataclass(frozen=True)
class Theirs:
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
    def pieces(self) -> dict[str, list[convert.Piece]]:
        return convert.pieces(self.cfg)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: convert.their_shape(members, self.cfg) for name, members in self.pieces.items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        pieces = [(Leaf(piece.name, piece.layer), piece.entry) for piece in self.pieces[name]]
        if rows == slice(0, 0):  # asks for the type alone
            return np.empty((0, *convert.their_shape(self.pieces[name], self.cfg)[1:]), self.dtype(pieces[0][0]))
        parts = [convert.to_theirs(self.leaf(leaf), leaf.name, entry.axes, self.cfg) for leaf, entry in pieces]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[rows]
