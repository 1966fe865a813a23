"""A checkpoint's tensors into arrays that are born in their places, however large the model, and back: every byte is
read once, and one tensor at a time is in the memory of the host.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from longjax import sharding
from longjax.checkpoints import layerwise, param_mapping
from longjax.checkpoints.layerwise import HfTensor, Leaf
from longjax.checkpoints.tensor_source import Tensors
from longjax.config import ModelConfig
from longjax.methods.lora import Lora, lora_param_names, weight_name
from longjax.methods.method import AdaptWeights
from longjax.progress import ProgressFn, no_progress

Mesh = jax.sharding.Mesh | None  # None: one device


def load(
    tensors: Tensors,
    cfg: ModelConfig,
    mesh: Mesh = None,
    dtype: DTypeLike = jnp.float32,
    report: ProgressFn = no_progress,
) -> dict[str, jax.Array]:
    """-> params, without the method's own. Raises ValueError listing all tensors that are missing or do not fit."""
    param_mapping.check_names(tensors.shapes(), cfg)
    named, every, params = param_mapping.Named(tensors, cfg), list(layerwise.leaves(cfg)), {}
    for done, leaf in enumerate(every):
        report(done / len(every), f"reading {leaf.name}")
        x, order = raw(named, leaf, cfg, mesh), layerwise.axis_order(leaf, cfg)
        if leaf.layer is None:
            params[leaf.name] = reorder_axes(x, order, dtype)
        else:
            if leaf.layer == 0:
                shape = (cfg.layers, *layerwise.shape(leaf, cfg))
                params[leaf.name] = jnp.zeros(shape, dtype, device=place(spec(leaf.name, shape, mesh), mesh))
            params[leaf.name] = stacked(params[leaf.name], x, leaf.layer, order)
        jax.block_until_ready(params[leaf.name])  # else reading runs ahead, and fills the host's memory
    report(1.0, "read")
    return params


@functools.partial(jax.jit, static_argnums=(1, 2))
def reorder_axes(x: jax.Array, order: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    return x.transpose(order).astype(dtype)


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def stacked(stack: jax.Array, x: jax.Array, layer: jax.Array | int, order: tuple[int, ...]) -> jax.Array:
    """`x` as this layer of the stack, which is not copied. Compiled once a shape."""
    return jax.lax.dynamic_update_index_in_dim(stack, reorder_axes(x, order, stack.dtype), layer, 0)


def spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> jax.P:
    return jax.P() if mesh is None else sharding.partition_spec(name, shape, mesh)


def place(spec: jax.P, mesh: Mesh) -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else jax.NamedSharding(mesh, spec)


def raw(tensors: Tensors, leaf: Leaf, cfg: ModelConfig, mesh: Mesh) -> jax.Array:
    """A leaf with the axes and the type of the file. This process reads only the rows that its devices hold: devices
    turn and widen, which is faster there and halves what they are sent.
    """
    ours, order = layerwise.shape(leaf, cfg), layerwise.axis_order(leaf, cfg)
    split, shape, axes = spec(leaf.name, ours, mesh), [0] * len(ours), [None] * len(ours)
    for axis, number in enumerate(order):
        shape[number], axes[number] = ours[axis], split[axis] if mesh else None
    where = place(jax.P(*axes), mesh)
    indices = where.addressable_devices_indices_map(tuple(shape)).values()
    held = [index[0].indices(shape[0]) for index in indices if index is not None]
    first, last = min(start for start, _, _ in held), max(stop for _, stop, _ in held)
    x = layerwise.is_stored(tensors, leaf, cfg, slice(first, last))

    def piece(index):
        start, stop, _ = index[0].indices(shape[0])
        return x[(slice(start - first, stop - first), *index[1:])]

    return jax.make_array_from_callback(tuple(shape), where, piece)


@jax.jit
def layer_of(stack: jax.Array, layer: jax.Array | int) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stack, layer, 0, keepdims=False)


@dataclasses.dataclass(frozen=True)
class OnHost:
    """A model's parameters, one leaf on the host at a time, adapters added. All processes ask for the same."""

    params: Mapping[str, Any]
    adapt: AdaptWeights

    def tensors(self, cfg: ModelConfig) -> HfTensor:
        """-> them by Hugging Face's names."""
        return HfTensor(self, self.dtype, cfg)

    def __call__(self, leaf: Leaf) -> np.ndarray:
        x = on_host(self.params[leaf.name], leaf.layer)
        if isinstance(self.adapt, Lora):
            x = self.merged(x, self.adapt, leaf)
        return x

    def merged(self, x: np.ndarray, lora: Lora, leaf: Leaf) -> np.ndarray:
        """The product is added in float32, if the leaf has one."""
        for name in lora.names:
            if weight_name(name) == leaf.name:
                method_params = self.params["method"]["layers"]
                factors = {
                    factor: jnp.asarray(on_host(method_params[factor], leaf.layer)) for factor in lora_param_names(name)
                }
                x = x.astype(np.float32) + np.asarray(lora.delta(name, factors))
        return x

    def dtype(self, leaf: Leaf) -> np.dtype:
        return np.dtype(self.params[leaf.name].dtype)


def on_host(x: Any, layer: int | None) -> np.ndarray:
    """-> an array, or one layer of it, whole in every process."""
    if isinstance(x, jax.Array):
        return sharding.gather_to_host(x if layer is None else layer_of(x, layer))
    return np.asarray(x if layer is None else x[layer])
