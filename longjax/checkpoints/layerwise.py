"""Parameters one layer at a time, from and to a checkpoint's tensors, so that little memory is needed."""

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
    """A parameter, or one layer of it; layer None: it is outside the layers."""

    name: str
    layer: int | None = None


def leaves(cfg: ModelConfig) -> Iterator[Leaf]:
    """Yields all leaves of a model: those outside the layers, then each parameter layer by layer."""
    yield from map(Leaf, global_shapes(cfg))
    for name in layer_shapes(cfg):
        yield from (Leaf(name, layer) for layer in range(cfg.layers))


def shape(leaf: Leaf, cfg: ModelConfig) -> tuple[int, ...]:
    """Returns the shape of a leaf."""
    return (global_shapes(cfg) | layer_shapes(cfg))[leaf.name]


def hf_name(leaf: Leaf, cfg: ModelConfig) -> str:
    """Returns the name of the Hugging Face tensor that holds the leaf."""
    return weight_table(cfg)[leaf.name].hf_name.format(leaf.layer)


def axis_order(leaf: Leaf, cfg: ModelConfig) -> tuple[int, ...]:
    """Returns the number of each of the leaf's axes among those of `read_stored`."""
    flat = weight_table(cfg)[leaf.name].axes.replace(" ", "")
    return tuple(flat.index(axis) for axis in leaf.name.rsplit("_", 1)[1])


def read_stored(tensors: Tensors, leaf: Leaf, cfg: ModelConfig, span: slice = slice(None)) -> np.ndarray:
    """Reads a leaf with the axes in the file's order, each apart ([N, H, D], where the file has [N * H, D]).

    Args:
      tensors: by the names of the family's table (`TableTensors`).
      leaf: to read.
      cfg: of the model.
      span: of the first axis.

    """
    entry, size = weight_table(cfg)[leaf.name], param_mapping.axis_sizes(cfg)
    count, *rest = (size[axis] for axis in entry.axes.replace(" ", ""))
    rows = math.prod(size[axis] for axis in entry.axes.split()[0][1:])  # in the file for one step of the first axis
    start, stop, _ = span.indices(count)
    first = entry.part * count
    x = tensors.read(hf_name(leaf, cfg), slice((first + start) * rows, (first + stop) * rows))
    return x.reshape([stop - start, *rest])


def read_leaf(tensors: Tensors, leaf: Leaf, cfg: ModelConfig) -> np.ndarray:
    """Reads a leaf with the axes of its name."""
    return contiguous(read_stored(tensors, leaf, cfg).transpose(axis_order(leaf, cfg)))


def contiguous(x: np.ndarray, block: int = 128) -> np.ndarray:
    """Returns a copy in the order of its axes.

    Copies bits, since NumPy is slow with bfloat16, in blocks that stay in the processor's cache: five times as fast as
    np.ascontiguousarray on a large transposed matrix.
    """
    bits = x.view(f"u{x.dtype.itemsize}")
    copy = np.empty(x.shape, bits.dtype)
    for start in range(0, x.shape[-1], block):
        copy[..., start : start + block] = bits[..., start : start + block]
    return copy.view(x.dtype)


@dataclasses.dataclass(frozen=True)
class HfTensors:
    """Parameters by Hugging Face's names, one on the host at a time: a `Tensors`.

    Attributes:
      leaf: returns a parameter with the axes of its name.
      dtype: returns its type, without reading it.
      cfg: of the model.

    """

    leaf: Callable[[Leaf], np.ndarray]
    dtype: Callable[[Leaf], np.dtype]
    cfg: ModelConfig

    @functools.cached_property
    def members(self) -> dict[str, list[param_mapping.TensorMember]]:
        return param_mapping.tensor_members(self.cfg)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: param_mapping.hf_shape(group, self.cfg) for name, group in self.members.items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        if rows == slice(0, 0):  # only the type is needed
            first = self.members[name][0]
            shape = param_mapping.hf_shape([first], self.cfg)
            return np.empty((0, *shape[1:]), self.dtype(Leaf(first.name, first.layer)))
        arrays = [self._read_member(member) for member in self.members[name]]
        return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays))[rows]

    def _read_member(self, member: param_mapping.TensorMember) -> np.ndarray:
        leaf = Leaf(member.name, member.layer)
        flat = self.leaf(leaf).transpose(np.argsort(axis_order(leaf, self.cfg)))
        return contiguous(flat).reshape(param_mapping.hf_shape([member], self.cfg))
