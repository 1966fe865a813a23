"""Landmark attention in training: the last token of every block is a landmark, the gate to the block's other tokens.

Mohtashami and Jaggi 2023, arXiv:2305.16300, section 3.1, as in its code rather than in equations 13-14 of
arXiv:2409.12181. Letters as in rope.py; M blocks, C tokens of a block.
"""

import dataclasses

import jax
import jax.numpy as jnp

from longjax.attention.branched import branch_inputs
from longjax.attention.branches import Branch
from longjax.attention.core import MASK_VALUE, AttentionMetadata, attention_scores, weighted_values
from longjax.attention.kv_cache import KVCache
from longjax.attention.rope import rotate
from longjax.config import ModelConfig


def grouped_softmax(x: jax.Array, visible: jax.Array, own: jax.Array) -> jax.Array:
    """Compute the grouped softmax: one over the own block's tokens and the other blocks' landmarks.

    A landmark passes its weight on to the tokens of its block, by a softmax over them, and keeps nothing.

    Args:
      x: logits [..., M, C], the landmark last.
      visible: whether the query sees the key, of the same shape or one that broadcasts to it.
      own: [..., M], whether the query lies in the block.

    Returns:
      Weights [..., M, C].

    """
    token = visible & (jnp.arange(x.shape[-1]) < x.shape[-1] - 1)
    inner = jnp.where(token, x, MASK_VALUE)
    total = jax.nn.logsumexp(inner, axis=-1)
    inside = jnp.where(token, jnp.exp(inner - total[..., None]), 0.0)
    # A landmark without visible tokens in its block opens nothing: a document may begin with one.
    opened = jnp.any(token, axis=-1) & (own | visible[..., -1])
    share = jax.nn.softmax(jnp.where(opened, jnp.where(own, total, x[..., -1]), MASK_VALUE), axis=-1)
    return jnp.where(opened, share, 0.0)[..., None] * inside


def by_block(x: jax.Array, block: int) -> jax.Array:
    """Split [..., S] into [..., M, C]; the last block is padded with zeros."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % block)])
    return x.reshape(*x.shape[:-1], -1, block)


def landmark_weights(x_BKGTS: jax.Array, visible: jax.Array, t_index_BT: jax.Array, block: int) -> jax.Array:
    """Return weight_BKGTS of rows from their first token on. `visible` is [B, K, G, T, S], or K = G = 1."""
    x_BKGTMC, visible = by_block(x_BKGTS, block), by_block(visible, block)
    own = t_index_BT[:, None, None, :, None] // block == jnp.arange(x_BKGTMC.shape[-2])
    weight_BKGTMC = grouped_softmax(x_BKGTMC, visible, own)
    return weight_BKGTMC.reshape(*x_BKGTS.shape[:-1], -1)[..., : x_BKGTS.shape[-1]]


@dataclasses.dataclass(frozen=True)
class LandmarkAttention:
    """Landmark attention in training: a query sees its own block, and all earlier ones by their landmarks.

    Dense: memory grows with T * S, which is small where it is used, at about 520 tokens.
    """

    block: int

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        assert cache is None, "training has no cache"
        rotated = rotate(k_BSKH, metadata.keys.position_BT, metadata.rope)
        causal = branch_inputs(Branch(), q_BTNH, KVCache.of(rotated, v_BSKH, metadata.keys), metadata)
        x_BKGTS, visible = attention_scores(causal)
        weight_BKGTS = landmark_weights(x_BKGTS, visible, metadata.queries.index_BT, self.block)
        return weighted_values(weight_BKGTS, causal).reshape(q_BTNH.shape).astype(q_BTNH.dtype), None

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> None:
        """Raise ValueError: there is no cache in training."""
        raise ValueError("Landmark's training attention has no cache; decode with its memory instead")
