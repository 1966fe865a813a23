"""The key-value cache: copies of the keys, each rotated once and for good to the place its branches want.

A store keeps all tokens, a ring of the last W, or the first G. Letters as in rope.py; W slots of a store.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from longjax.attention.branches import Identity, PositionMap
from longjax.attention.core import TokenPositions
from longjax.attention.intervals import CacheRetention
from longjax.attention.rope import Rope, rotate
from longjax.config import ModelConfig


class KVCache(struct.PyTreeNode):
    """Keys and values of the tokens it keeps; `index_BW` says which token lies in a slot, -1: none.

    With `layer`, the arrays have a leading axis of layers, and this is the store of that one: new tokens are written
    into their slots, and nothing else is copied. A device may hold a piece of a store that keeps all tokens: the one
    that begins with token `offset`.
    """

    k_BWKH: jax.Array
    v_BWKH: jax.Array
    index_BW: jax.Array
    start_BW: jax.Array  # of the token's document
    layer: jax.Array | None = None
    offset: jax.Array | None = None
    retention: CacheRetention = struct.field(pytree_node=False, default=CacheRetention())

    @classmethod
    def empty(cls, cfg: ModelConfig, batch: int, size: int, retention: CacheRetention) -> "KVCache":
        slots = retention.size(size)
        zeros = jnp.zeros((batch, slots, cfg.kv_heads, cfg.head_dim), cfg.dtype)
        none = jnp.full((batch, slots), -1, jnp.int32)
        return cls(zeros, zeros, none, none, retention=retention)

    @classmethod
    def of(cls, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: TokenPositions) -> "KVCache":
        """The tokens of one call."""
        return cls(k_BTKH, v_BTKH, flat_indices(tokens), tokens.start_BT)

    @property
    def at(self) -> tuple[jax.Array, ...]:
        """Indices of its arrays that come before the row."""
        return () if self.layer is None else (self.layer,)

    def single_layer(self) -> "KVCache":
        """-> without the other layers, to look at; whoever reads it reads the slice where it lies."""
        k_BWKH, v_BWKH, index_BW, start_BW = (
            x[self.at] for x in (self.k_BWKH, self.v_BWKH, self.index_BW, self.start_BW)
        )
        return KVCache(k_BWKH, v_BWKH, index_BW, start_BW)

    def write(self, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: TokenPositions) -> "KVCache":
        """Puts each token into its slot. Padding, and what the store would not keep, is dropped."""
        j_BT, slot_BT = tokens.index_BT, self.slot(tokens)
        row_B1 = jnp.arange(j_BT.shape[0])[:, None]

        def put(old, new):
            place = old.at[(*self.at, row_B1, slot_BT)]
            return place.set(new.astype(old.dtype), mode="drop", unique_indices=True)

        return self.replace(
            k_BWKH=put(self.k_BWKH, k_BTKH), v_BWKH=put(self.v_BWKH, v_BTKH),
            index_BW=put(self.index_BW, j_BT), start_BW=put(self.start_BW, tokens.start_BT),
        )  # fmt: skip

    def slot(self, tokens: TokenPositions) -> jax.Array:
        """-> slot_BT: token j belongs into slot j mod W; those that are not kept have their own from W on."""
        slots, j_BT = self.index_BW.shape[-1], tokens.index_BT
        nowhere_T = slots + jnp.arange(j_BT.shape[1], dtype=jnp.int32)
        if self.offset is not None:
            inside_BT = (j_BT >= self.offset) & (j_BT < self.offset + slots)
            return jnp.where(tokens.real_BT & inside_BT, j_BT - self.offset, nowhere_T)
        newest_B1 = jnp.max(jnp.where(tokens.real_BT, j_BT, -1), axis=1, keepdims=True)
        stays_BT = (j_BT < slots) if self.retention.first is not None else (j_BT > newest_B1 - slots)
        return jnp.where(tokens.real_BT & stays_BT, j_BT % slots, nowhere_T)

    def visible_keys(self, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: TokenPositions) -> tuple["KVCache", "KVCache"]:
        """-> (what this call's queries look at, the store after the call).

        A ring forgets while it is written, so several new tokens look at the old ring and the new keys. Rows from
        their beginning look at each other.
        """
        after, new = self.write(k_BTKH, v_BTKH, tokens), KVCache.of(k_BTKH, v_BTKH, tokens)
        if tokens.from_start:
            return new, after
        if self.retention.last is None or tokens.index_BT.shape[1] == 1:
            return after, after
        seen = jax.tree.map(
            lambda old, new: jnp.concatenate([old, new.astype(old.dtype)], axis=1), self.single_layer(), new
        )
        return seen, after


def flat_indices(tokens: TokenPositions) -> jax.Array:
    """-> index_BT, -1 for padding."""
    return jnp.where(tokens.real_BT, tokens.index_BT, -1)


def in_layer(cache: Any, layer: jax.Array | None) -> Any:
    """-> the stores of all layers as those of one; None: as those of all again. What is no store stays as it is."""

    def of(x):
        return x.replace(layer=layer) if isinstance(x, KVCache) else x

    return jax.tree.map(of, cache, is_leaf=lambda x: isinstance(x, KVCache))


def rerotate(keys: KVCache, old: Rope, new: Rope, at: PositionMap = Identity()) -> KVCache:
    """Cached keys as if they had been rotated by `new`, not `old`: rotations add up, so only the difference is needed.

    CLEX and the YaRN paper advise this when the frequencies change while a sequence grows. Arrays may have a
    leading layer axis.
    """
    turn = new.replace(inv_freq_R=new.inv_freq_R - old.inv_freq_R, scale=new.scale / old.scale)

    def one(k_BWKH, index_BW, start_BW):
        return rotate(k_BWKH, at((index_BW - start_BW).astype(jnp.float32)), turn)

    each = jax.vmap(one) if keys.index_BW.ndim == 3 else one
    return keys.replace(k_BWKH=each(keys.k_BWKH, keys.index_BW, keys.start_BW))
