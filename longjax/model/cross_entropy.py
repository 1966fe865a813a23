"""Cross-entropy of each token's successor, without ever holding the logits of all tokens.

One slab of tokens at a time. In training the gradients of a slab are computed right after its logits, so that these are
computed once, and the gradient of the unembedding is summed in float32. Letters as in llama.py; P counts the tokens of
one device, or of one slab; V is this device's share of the vocabulary, which the mesh axis `split` divides.
"""

from functools import partial

import jax
import jax.numpy as jnp

MAX_SLAB_LOGITS = 2**26  # that exist at once
NO_ID = 2**31 - 1


def token_slabs(x: jax.Array, vocab: int) -> jax.Array:
    """Split [P, ...] into [slabs, P / slabs, ...] with at most MAX_SLAB_LOGITS logits a slab, if P has the divisors."""
    P = x.shape[0]
    slabs = next(n for n in range(max(1, -(-P * vocab // MAX_SLAB_LOGITS)), P + 1) if P % n == 0)
    return x.reshape(slabs, -1, *x.shape[1:])


def sum_over_mesh(x: jax.Array, split: str | None) -> jax.Array:
    """Sum over the devices of a mesh axis; None: no axis divides the vocabulary."""
    return x if split is None else jax.lax.psum(x, split)


def softmax_statistics(
    hidden_PD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, split: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return logits_PV, id_V (their token ids), and lse_P, the logarithm of the summed exponentials."""
    x_PV = jnp.einsum("PD,DV->PV", hidden_PD, w_DV, preferred_element_type=jnp.float32)
    x_PV = x_PV if bias_V is None else x_PV + bias_V
    first = 0 if split is None else jax.lax.axis_index(split) * x_PV.shape[1]
    id_V = first + jnp.arange(x_PV.shape[1], dtype=jnp.int32)
    top_P = x_PV.max(axis=1)
    top_P = jax.lax.stop_gradient(top_P if split is None else jax.lax.pmax(top_P, split))
    lse_P = top_P + jnp.log(sum_over_mesh(jnp.exp(x_PV - top_P[:, None]).sum(1), split))
    return x_PV, id_V, lse_P


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def cross_entropy(
    hidden_PD: jax.Array,
    w_DV: jax.Array,
    bias_V: jax.Array | None,
    target_P: jax.Array,
    weight_P: jax.Array,
    split: str | None,
    vocab_size: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute the weighted cross-entropy of this device's tokens.

    Args:
      hidden_PD: hidden states.
      w_DV: unembedding, in the dtype of the hidden states.
      bias_V: its bias, if any.
      target_P: token ids in the whole vocabulary, int32.
      weight_P: weight of each target, float32.
      split: mesh axis that divides the vocabulary, if any.
      vocab_size: ids from here on are not the tokenizer's, and no hit.

    Returns:
      The sum of weight * nll, the only output with gradients; nll_P = -log p(target) in nats; hit_P, whether greedy
      decoding gives the target.

    """

    def score_slab(slab):
        return nll_and_hit(*softmax_statistics(slab[0], w_DV, bias_V, split), slab[1], split, vocab_size)

    slabs = tuple(token_slabs(x, w_DV.shape[1]) for x in (hidden_PD, target_P))
    nll_P, hit_P = (x.reshape(-1) for x in jax.lax.map(score_slab, slabs))
    return (nll_P * weight_P).sum(), nll_P, hit_P


def nll_and_hit(
    x_PV: jax.Array, id_V: jax.Array, lse_P: jax.Array, target_P: jax.Array, split: str | None, vocab_size: int
) -> tuple[jax.Array, jax.Array]:
    """Return nll_P, and hit_P: whether greedy decoding gives the target."""
    logit_P = sum_over_mesh(jnp.where(target_P[:, None] == id_V, x_PV, 0).sum(1), split)
    return lse_P - logit_P, greedy_id(x_PV, id_V, split, vocab_size) == target_P


def greedy_id(x_PV: jax.Array, id_V: jax.Array, split: str | None, vocab_size: int) -> jax.Array:
    """Return the ids that greedy decoding gives: the lowest with the largest logit; NO_ID if a logit is NaN."""
    x_PV = jnp.where(id_V < vocab_size, x_PV, -jnp.inf)
    top_P = x_PV.max(axis=1)
    top_P = top_P if split is None else jax.lax.pmax(top_P, split)
    id_P = jnp.where(x_PV == top_P[:, None], id_V, NO_ID).min(axis=1)  # NaN equals nothing
    return id_P if split is None else jax.lax.pmin(id_P, split)


def _cross_entropy_forward(hidden_PD, w_DV, bias_V, target_P, weight_P, split, vocab_size):
    """Every gradient, for a sum whose own gradient is 1; that of the hidden states from this device's vocabulary."""

    def add_slab(sums, slab):
        hidden_PD, target_P, weight_P = slab
        x_PV, id_V, lse_P = softmax_statistics(hidden_PD, w_DV, bias_V, split)
        d_PV = (jnp.exp(x_PV - lse_P[:, None]) - jnp.where(target_P[:, None] == id_V, 1.0, 0.0)) * weight_P[:, None]
        thin_PV = d_PV.astype(hidden_PD.dtype)
        dw_DV = jnp.einsum("PD,PV->DV", hidden_PD, thin_PV, preferred_element_type=jnp.float32)
        dh_PD = jnp.einsum("PV,DV->PD", thin_PV, w_DV)
        sums = jax.tree.map(jnp.add, sums, (dw_DV, None if bias_V is None else d_PV.sum(0)))
        return sums, (*nll_and_hit(x_PV, id_V, lse_P, target_P, split, vocab_size), dh_PD)

    zeros = (jnp.zeros(w_DV.shape, jnp.float32), None if bias_V is None else jnp.zeros(bias_V.shape, jnp.float32))
    slabs = tuple(token_slabs(x, w_DV.shape[1]) for x in (hidden_PD, target_P, weight_P))
    (dw_DV, d_bias_V), (nll, hit, dh) = jax.lax.scan(add_slab, zeros, slabs)
    nll_P = nll.reshape(-1)
    saved = (dh.reshape(hidden_PD.shape), dw_DV, d_bias_V, w_DV[:0, 0])
    return ((nll_P * weight_P).sum(), nll_P, hit.reshape(-1)), saved


def _cross_entropy_backward(split, vocab_size, saved, d_out):
    dh_PD, dw_DV, d_bias_V, like_w = saved
    d = sum_over_mesh(d_out[0], split)  # jax.shard_map splits the gradient of an unsplit number over the devices
    dw_DV = (dw_DV * d).astype(like_w.dtype)
    return dh_PD * d.astype(dh_PD.dtype), dw_DV, None if d_bias_V is None else d_bias_V * d, None, None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)
