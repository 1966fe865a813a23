"""A checkpoint's tensors into arrays that are born in their places, however large the model: every byte is read once,
and one tensor at a time is in the memory of the host.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from longjax import convert, leaves, sharding
from longjax.config import ModelConfig
from longjax.leaves import Leaf
from longjax.progress import Report, quiet
from longjax.tensors import Tensors

Mesh = jax.sharding.Mesh | None  # None: one device


def load(
    tensors: Tensors, cfg: ModelConfig, mesh: Mesh = None, dtype: DTypeLike = jnp.float32, report: Report = quiet
) -> dict[str, jax.Array]:
    """-> params, without the method's own. Raises ValueError listing all tensors that are missing or do not fit."""
    convert.check_names(tensors.shapes(), cfg)
    named, every, params = convert.Named(tensors, cfg), list(leaves.leaves(cfg)), {}
    for done, leaf in enumerate(every):
        report(done / len(every), f"reading {leaf.name}")
        x = one(named, leaf, cfg, mesh, dtype)
        if leaf.layer is None:
            params[leaf.name] = x
            continue
        if leaf.layer == 0:
            params[leaf.name] = empty(leaf.name, (cfg.layers, *x.shape), mesh, dtype)
        params[leaf.name] = stacked(params[leaf.name], x, leaf.layer)
    report(1.0, "read")
    return params


def empty(name: str, shape: tuple[int, ...], mesh: Mesh, dtype: DTypeLike) -> jax.Array:
    return jnp.zeros(shape, dtype, device=place(name, shape, mesh))


@functools.partial(jax.jit, donate_argnums=0)
def stacked(stack: jax.Array, x: jax.Array, layer: jax.Array | int) -> jax.Array:
    """`x` as this layer of the stack, which is not copied. Compiled once a shape."""
    return jax.lax.dynamic_update_index_in_dim(stack, x, layer, 0)


def place(name: str, shape: tuple[int, ...], mesh: Mesh) -> jax.sharding.Sharding:
    if mesh is None:
        return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.NamedSharding(mesh, sharding.stored(name, shape, mesh))


def one(tensors: Tensors, leaf: Leaf, cfg: ModelConfig, mesh: Mesh, dtype: DTypeLike) -> jax.Array:
    """A leaf, of which this process reads only the rows that its devices hold."""
    shape, (axis, _) = leaves.shape(leaf, cfg), leaves.outermost(leaf, cfg)
    where = place(leaf.name, shape, mesh)
    held = [index[axis].indices(shape[axis]) for index in where.addressable_devices_indices_map(shape).values()]
    first, last = min(start for start, _, _ in held), max(stop for _, stop, _ in held)
    x = leaves.read(tensors, leaf, cfg, slice(first, last))

    def piece(index):
        start, stop, _ = index[axis].indices(shape[axis])
        return x[(*index[:axis], slice(start - first, stop - first), *index[axis + 1 :])].astype(dtype)

    return jax.make_array_from_callback(shape, where, piece)
