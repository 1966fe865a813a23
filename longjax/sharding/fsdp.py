"""FSDP: weights that are stored split over devices are gathered for use, inside jax.shard_map.

Their gradients are summed over the devices in float32, whatever they are computed in, and every device gets those of
its shard. Letters as in model/llama.py.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import P


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather(w: jax.Array, spec: P, dtype: jnp.dtype) -> jax.Array:
    """Returns the whole weight in `dtype`.

    Args:
      w: this device's shard.
      spec: the mesh axes over which each axis of the weight is split.
      dtype: of the result.

    """
    w = w.astype(dtype)
    for dim, axes in enumerate(spec):
        w = w if axes is None else jax.lax.all_gather(w, axes, axis=dim, tiled=True)
    return w


def scatter(d: jax.Array, spec: P) -> jax.Array:
    """Returns this device's shard of the sum over devices: the transpose of `gather`."""
    for dim, axes in enumerate(spec):
        d = d if axes is None else jax.lax.psum_scatter(d, axes, scatter_dimension=dim, tiled=True)
    return d


gather.defvjp(
    lambda w, spec, dtype: (gather(w, spec, dtype), w[:0]),
    lambda spec, dtype, like, d: (scatter(d.astype(jnp.float32), spec).astype(like.dtype),),
)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def embedding_lookup(spec: P, dtype: jnp.dtype, table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """Returns x_BTD of a sharded table; the gradients of equal tokens are summed in float32.

    Args:
      spec: the mesh axes over which each axis of the table is split.
      dtype: of the result.
      table_VD: this device's shard.
      tokens_BT: this device's tokens.

    """
    whole: Any = gather(table_VD, spec, dtype)
    return whole[tokens_BT]


def _embedding_lookup_forward(spec, dtype, table_VD, tokens_BT):
    return embedding_lookup(spec, dtype, table_VD, tokens_BT), (table_VD, tokens_BT)


def _embedding_lookup_backward(spec, dtype, saved, d_BTD):
    table_VD, tokens_BT = saved
    V = table_VD.shape[0] * jax.lax.psum(1, spec[0] or ())
    sums = jnp.zeros((V, d_BTD.shape[2]), jnp.float32).at[tokens_BT].add(d_BTD.astype(jnp.float32))
    return scatter(sums, spec).astype(table_VD.dtype), None


embedding_lookup.defvjp(_embedding_lookup_forward, _embedding_lookup_backward)
