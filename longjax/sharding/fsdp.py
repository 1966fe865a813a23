"""Weights that lie in pieces on several devices, used whole inside jax.shard_map.

Their gradients are added up over the devices in float32, whatever they are computed in, and every device gets its
piece. Letters as in llama.py.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import P


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather(w: jax.Array, spec: P, dtype: jnp.dtype) -> jax.Array:
    """The pieces put together, in `dtype`; `spec` says over which mesh axes each axis of the weight is split."""
    w = w.astype(dtype)
    for dim, axes in enumerate(spec):
        w = w if axes is None else jax.lax.all_gather(w, axes, axis=dim, tiled=True)
    return w


def scatter(d: jax.Array, spec: P) -> jax.Array:
    """The transpose of gathering."""
    for dim, axes in enumerate(spec):
        d = d if axes is None else jax.lax.psum_scatter(d, axes, scatter_dimension=dim, tiled=True)
    return d


gather.defvjp(
    lambda w, spec, dtype: (gather(w, spec, dtype), w[:0]),
    lambda spec, dtype, like, d: (scatter(d.astype(jnp.float32), spec).astype(like.dtype),),
)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def embedding_lookup(spec: P, dtype: jnp.dtype, table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """-> x_BTD of a table that lies in pieces; gradients of equal tokens are added up in float32."""
    whole: Any = gather(table_VD, spec, dtype)
    return whole[tokens_BT]


def embedding_lookup_forward(spec, dtype, table_VD, tokens_BT):
    return embedding_lookup(spec, dtype, table_VD, tokens_BT), (table_VD, tokens_BT)


def embedding_lookup_backward(spec, dtype, saved, d_BTD):
    table_VD, tokens_BT = saved
    V = table_VD.shape[0] * jax.lax.psum(1, spec[0] or ())
    sums = jnp.zeros((V, d_BTD.shape[2]), jnp.float32).at[tokens_BT].add(d_BTD.astype(jnp.float32))
    return scatter(sums, spec).astype(table_VD.dtype), None


embedding_lookup.defvjp(embedding_lookup_forward, embedding_lookup_backward)
