"""-log p of each token's successor, without ever holding the logits of all tokens.

A slab of tokens at a time; in training the gradients of a slab are made right after its logits, so that these are
computed once, and the gradient of the unembedding is added up in float32. Letters as in llama.py; P counts the tokens
of one device, or of a slab of them; V the words that this device has of those split over the mesh axis `split`.
"""

from functools import partial

import jax
import jax.numpy as jnp

LOGITS = 2**26  # at a time


def vocab_slabs(x: jax.Array, words: int) -> jax.Array:
    """[P, ...] -> [slabs, P / slabs, ...]."""
    P = x.shape[0]
    slabs = next(n for n in range(max(1, -(-P * words // LOGITS)), P + 1) if P % n == 0)
    return x.reshape(slabs, -1, *x.shape[1:])


def sum_over_mesh(x: jax.Array, split: str | None) -> jax.Array:
    return x if split is None else jax.lax.psum(x, split)


def softmax_statistics(
    hidden_PD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, target_P: jax.Array, split: str | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """-> logits_PV, target_PV (where the target is), lse_P, best_P: the largest logit."""
    x_PV = jnp.einsum("PD,DV->PV", hidden_PD, w_DV, preferred_element_type=jnp.float32)
    x_PV = x_PV if bias_V is None else x_PV + bias_V
    first = 0 if split is None else jax.lax.axis_index(split) * x_PV.shape[1]
    target_PV = target_P[:, None] == first + jnp.arange(x_PV.shape[1], dtype=jnp.int32)
    best_P = x_PV.max(axis=1)
    best_P = jax.lax.stop_gradient(best_P if split is None else jax.lax.pmax(best_P, split))
    lse_P = best_P + jnp.log(sum_over_mesh(jnp.exp(x_PV - best_P[:, None]).sum(1), split))
    return x_PV, target_PV, lse_P, best_P


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def cross_entropy(
    hidden_PD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, target_P: jax.Array, weight_P: jax.Array,
    split: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """-> the sum of weight * nll; and, through which no gradient flows, nll_P = -log p(target), and hit_P: whether
    the target was the likeliest word.
    """

    def slab(slab):
        x_PV, target_PV, lse_P, best_P = softmax_statistics(slab[0], w_DV, bias_V, slab[1], split)
        return nll_and_hit(x_PV, target_PV, lse_P, best_P, split)

    slabs = tuple(vocab_slabs(x, w_DV.shape[1]) for x in (hidden_PD, target_P))
    nll_P, hit_P = (x.reshape(-1) for x in jax.lax.map(slab, slabs))
    return (nll_P * weight_P).sum(), nll_P, hit_P


def nll_and_hit(x_PV: jax.Array, target_PV: jax.Array, lse_P: jax.Array, best_P: jax.Array, split: str | None):
    found_P = sum_over_mesh(jnp.where(target_PV, x_PV, 0).sum(1), split)
    return lse_P - found_P, found_P >= best_P


def cross_entropy_forward(hidden_PD, w_DV, bias_V, target_P, weight_P, split):
    """Every gradient, for a sum whose own gradient is 1. That of the hidden states comes of this device's words."""

    def slab(sums, slab):
        hidden_PD, target_P, weight_P = slab
        x_PV, target_PV, lse_P, best_P = softmax_statistics(hidden_PD, w_DV, bias_V, target_P, split)
        d_PV = (jnp.exp(x_PV - lse_P[:, None]) - jnp.where(target_PV, 1.0, 0.0)) * weight_P[:, None]
        thin_PV = d_PV.astype(hidden_PD.dtype)
        dw_DV = jnp.einsum("PD,PV->DV", hidden_PD, thin_PV, preferred_element_type=jnp.float32)
        dh_PD = jnp.einsum("PV,DV->PD", thin_PV, w_DV)
        sums = jax.tree.map(jnp.add, sums, (dw_DV, None if bias_V is None else d_PV.sum(0)))
        return sums, (*nll_and_hit(x_PV, target_PV, lse_P, best_P, split), dh_PD)

    zeros = (jnp.zeros(w_DV.shape, jnp.float32), None if bias_V is None else jnp.zeros(bias_V.shape, jnp.float32))
    slabs = tuple(vocab_slabs(x, w_DV.shape[1]) for x in (hidden_PD, target_P, weight_P))
    (dw_DV, d_bias_V), (nll, hit, dh) = jax.lax.scan(slab, zeros, slabs)
    nll_P = nll.reshape(-1)
    saved = (dh.reshape(hidden_PD.shape), dw_DV, d_bias_V, w_DV[:0, 0])
    return ((nll_P * weight_P).sum(), nll_P, hit.reshape(-1)), saved


def cross_entropy_backward(split, saved, d_out):
    dh_PD, dw_DV, d_bias_V, like_w = saved
    d = sum_over_mesh(d_out[0], split)  # jax.shard_map gives each device its share of what is one number for all
    dw_DV = (dw_DV * d).astype(like_w.dtype)
    return dh_PD * d.astype(dh_PD.dtype), dw_DV, None if d_bias_V is None else d_bias_V * d, None, None


cross_entropy.defvjp(cross_entropy_forward, cross_entropy_backward)
