"""Loads checkpoint tensors directly into sharded arrays, and reads them back, however large the model.

Every byte is read once, and one tensor at a time is in the memory of the host.
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
from longjax.checkpoints.layerwise import HfTensors, Leaf
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
    """Loads a model's parameters; the method's own are not among them.

    Args:
      tensors: of the checkpoint.
      cfg: of the model.
      mesh: devices that the parameters are spread over; None: one.
      dtype: of the parameters.
      report: called with the share that is read.

    Returns:
      Parameters by name, layers stacked.

    Raises:
      ValueError: tensors are missing or of another shape; all of them are named.

    """
    param_mapping.check_names(tensors.shapes(), cfg)
    table_tensors, leaves, params = param_mapping.TableTensors(tensors, cfg), list(layerwise.leaves(cfg)), {}
    for done, leaf in enumerate(leaves):
        report(done / len(leaves), f"reading {leaf.name}")
        x, order = load_stored(table_tensors, leaf, cfg, mesh), layerwise.axis_order(leaf, cfg)
        if leaf.layer is None:
            params[leaf.name] = reorder_axes(x, order, dtype)
        else:
            if leaf.layer == 0:
                shape = (cfg.layers, *layerwise.shape(leaf, cfg))
                params[leaf.name] = jnp.zeros(shape, dtype, device=sharding_of(spec(leaf.name, shape, mesh), mesh))
            params[leaf.name] = set_layer(params[leaf.name], x, leaf.layer, order)
        jax.block_until_ready(params[leaf.name])  # else reading runs ahead, and fills the host's memory
    report(1.0, "read")
    return params


@functools.partial(jax.jit, static_argnums=(1, 2))
def reorder_axes(x: jax.Array, order: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Returns the array with its axes in this order, in another type."""
    return x.transpose(order).astype(dtype)


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def set_layer(stack: jax.Array, x: jax.Array, layer: jax.Array | int, order: tuple[int, ...]) -> jax.Array:
    """Returns the stack with `x`, its axes in this order, as one layer. The stack is donated."""
    return jax.lax.dynamic_update_index_in_dim(stack, reorder_axes(x, order, stack.dtype), layer, 0)


def spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> jax.P:
    """Returns how a parameter is split over the mesh."""
    return jax.P() if mesh is None else sharding.partition_spec(name, shape, mesh)


def sharding_of(spec: jax.P, mesh: Mesh) -> jax.sharding.Sharding:
    """Returns the sharding on the mesh, or the first device."""
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else jax.NamedSharding(mesh, spec)


def load_stored(tensors: Tensors, leaf: Leaf, cfg: ModelConfig, mesh: Mesh) -> jax.Array:
    """Loads a leaf with the axes and the type of the file (`read_stored`).

    This process reads only the rows that its devices hold. Devices transpose and widen, which is faster there, and
    halves the bytes that are sent to them.
    """
    leaf_shape, order = layerwise.shape(leaf, cfg), layerwise.axis_order(leaf, cfg)
    split, shape, axes = spec(leaf.name, leaf_shape, mesh), [0] * len(leaf_shape), [None] * len(leaf_shape)
    for axis, number in enumerate(order):
        shape[number], axes[number] = leaf_shape[axis], split[axis] if mesh else None
    layout = sharding_of(jax.P(*axes), mesh)
    indices = layout.addressable_devices_indices_map(tuple(shape)).values()
    spans = [index[0].indices(shape[0]) for index in indices if index is not None]
    first, last = min(start for start, _, _ in spans), max(stop for _, stop, _ in spans)
    x = layerwise.read_stored(tensors, leaf, cfg, slice(first, last))

    def shard(index):
        start, stop, _ = index[0].indices(shape[0])
        return x[(slice(start - first, stop - first), *index[1:])]

    return jax.make_array_from_callback(tuple(shape), layout, shard)


@jax.jit
def layer_of(stack: jax.Array, layer: jax.Array | int) -> jax.Array:
    """Returns one layer of a stack."""
    return jax.lax.dynamic_index_in_dim(stack, layer, 0, keepdims=False)


@dataclasses.dataclass(frozen=True)
class OnHost:
    """Parameters, one leaf on the host at a time, with LoRA merged.

    On several hosts all processes must read the same leaves in the same order: reading gathers them.
    """

    params: Mapping[str, Any]
    adapt: AdaptWeights

    def tensors(self, cfg: ModelConfig) -> HfTensors:
        """Returns the parameters by Hugging Face's names."""
        return HfTensors(self, self.dtype, cfg)

    def __call__(self, leaf: Leaf) -> np.ndarray:
        x = on_host(self.params[leaf.name], leaf.layer)
        if isinstance(self.adapt, Lora):
            x = self.merged(x, self.adapt, leaf)
        return x

    def merged(self, x: np.ndarray, lora: Lora, leaf: Leaf) -> np.ndarray:
        """Returns the weight with the product of its LoRA factors, if it has some, added in float32."""
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
    """Returns an array, or one layer of it, whole in every process."""
    if isinstance(x, jax.Array):
        return sharding.gather_to_host(x if layer is None else layer_of(x, layer))
    return np.asarray(x if layer is None else x[layer])
