"""-log p of each token's successor, without ever holding the logits of all tokens.

A slab of tokens at a time; in training the gradients of a slab are made right after its logits, so that these are
computed once, and the gradient of the unembedding is added up in float32. Letters as in llama.py; T counts all tokens
of one device, V the words that this device has, of those that are split over the mesh axis `split`.
"""

from functools import partial

import jax
import jax.numpy as jnp

LOGITS = 2**26  # at a time


def in_slabs(x: jax.Array, words: int) -> jax.Array:
    """[T, ...] -> [slabs, T / slabs, ...]."""
    T = x.shape[0]
    slabs = next(n for n in range(max(1, -(-T * words // LOGITS)), T + 1) if T % n == 0)
    return x.reshape(slabs, -1, *x.shape[1:])


def summed(x: jax.Array, split: str | None) -> jax.Array:
    return x if split is None else jax.lax.psum(x, split)


def statistics(
    hidden_TD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, target_T: jax.Array, split: str | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """-> logits_TV, target_TV (where the target is), lse_T, best_T: the largest logit."""
    x_TV = jnp.einsum("TD,DV->TV", hidden_TD, w_DV, preferred_element_type=jnp.float32)
    x_TV = x_TV if bias_V is None else x_TV + bias_V
    first = 0 if split is None else jax.lax.axis_index(split) * x_TV.shape[1]
    target_TV = target_T[:, None] == first + jnp.arange(x_TV.shape[1], dtype=jnp.int32)
    best_T = x_TV.max(axis=1)
    best_T = jax.lax.stop_gradient(best_T if split is None else jax.lax.pmax(best_T, split))
    lse_T = best_T + jnp.log(summed(jnp.exp(x_TV - best_T[:, None]).sum(1), split))
    return x_TV, target_TV, lse_T, best_T


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def cross_entropy(
    hidden_TD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, target_T: jax.Array, weight_T: jax.Array,
    split: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """-> the sum of weight * nll; and, through which no gradient flows, nll_T = -log p(target), and hit_T: whether
    the target was the likeliest word.
    """

    def slab(slab):
        x_TV, target_TV, lse_T, best_T = statistics(slab[0], w_DV, bias_V, slab[1], split)
        return scored(x_TV, target_TV, lse_T, best_T, split)

    slabs = tuple(in_slabs(x, w_DV.shape[1]) for x in (hidden_TD, target_T))
    nll_T, hit_T = (x.reshape(-1) for x in jax.lax.map(slab, slabs))
    return (nll_T * weight_T).sum(), nll_T, hit_T


def scored(x_TV: jax.Array, target_TV: jax.Array, lse_T: jax.Array, best_T: jax.Array, split: str | None):
    found_T = summed(jnp.where(target_TV, x_TV, 0).sum(1), split)
    return lse_T - found_T, found_T >= best_T


def forward(hidden_TD, w_DV, bias_V, target_T, weight_T, split):
    """Every gradient, for a sum whose own gradient is 1. That of the hidden states comes of this device's words."""

    def slab(sums, slab):
        hidden_TD, target_T, weight_T = slab
        x_TV, target_TV, lse_T, best_T = statistics(hidden_TD, w_DV, bias_V, target_T, split)
        d_TV = (jnp.exp(x_TV - lse_T[:, None]) - jnp.where(target_TV, 1.0, 0.0)) * weight_T[:, None]
        thin_TV = d_TV.astype(hidden_TD.dtype)
        dw_DV = jnp.einsum("TD,TV->DV", hidden_TD, thin_TV, preferred_element_type=jnp.float32)
        dh_TD = jnp.einsum("TV,DV->TD", thin_TV, w_DV)
        sums = jax.tree.map(jnp.add, sums, (dw_DV, None if bias_V is None else d_TV.sum(0)))
        return sums, (*scored(x_TV, target_TV, lse_T, best_T, split), dh_TD)

    zeros = (jnp.zeros(w_DV.shape, jnp.float32), None if bias_V is None else jnp.zeros(bias_V.shape, jnp.float32))
    slabs = tuple(in_slabs(x, w_DV.shape[1]) for x in (hidden_TD, target_T, weight_T))
    (dw_DV, d_bias_V), (nll, hit, dh) = jax.lax.scan(slab, zeros, slabs)
    nll_T = nll.reshape(-1)
    saved = (dh.reshape(hidden_TD.shape), dw_DV, d_bias_V, w_DV[:0, 0])
    return ((nll_T * weight_T).sum(), nll_T, hit.reshape(-1)), saved


def backward(split, saved, d_out):
    dh_TD, dw_DV, d_bias_V, like_w = saved
    d = summed(d_out[0], split)  # jax.shard_map gives each device its share of what is one number for all
    dw_DV = (dw_DV * d).astype(like_w.dtype)
    return dh_TD * d.astype(dh_TD.dtype), dw_DV, None if d_bias_V is None else d_bias_V * d, None, None


cross_entropy.defvjp(forward, backward)
