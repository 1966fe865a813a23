"""The key-value cache: keys are stored rotated, once for each way in which branches rotate them.

A cache retains all tokens, a ring of the last W, or the first W. Letters as in rope.py; W slots of a cache.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from longjax.attention.core import TokenPositions
from longjax.attention.intervals import CacheRetention
from longjax.config import ModelConfig


class KVCache(struct.PyTreeNode):
    """Keys and values of the tokens that it retains.

    With `layer`, the arrays have a leading axis of layers, and this is the cache of that one: new tokens are written
    into their slots, and nothing else is copied. A device may hold a piece of a cache that retains all tokens: the one
    that begins with token `offset`.

    Attributes:
      k_BWKH: keys, rotated.
      v_BWKH: values.
      index_BW: index of the token in each slot; -1 is an empty slot.
      start_BW: index of the first token of its document.
      layer: number of the layer, if the arrays hold all layers.
      offset: index of the first token of this device's piece, if the cache is split.
      retention: which tokens are kept.

    """

    k_BWKH: jax.Array
    v_BWKH: jax.Array
    index_BW: jax.Array
    start_BW: jax.Array
    layer: jax.Array | None = None
    offset: jax.Array | None = None
    retention: CacheRetention = struct.field(pytree_node=False, default=CacheRetention())

    @classmethod
    def empty(cls, cfg: ModelConfig, batch: int, size: int, retention: CacheRetention) -> "KVCache":
        """The empty cache of one layer, for rows of at most `size` tokens."""
        slots = retention.size(size)
        zeros = jnp.zeros((batch, slots, cfg.kv_heads, cfg.head_dim), cfg.dtype)
        empty = jnp.full((batch, slots), -1, jnp.int32)
        return cls(zeros, zeros, empty, empty, retention=retention)

    @classmethod
    def of(cls, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: TokenPositions) -> "KVCache":
        """The tokens of one call as a cache of their own."""
        return cls(k_BTKH, v_BTKH, index_or_empty(tokens), tokens.start_BT)

    @property
    def layer_index(self) -> tuple[jax.Array, ...]:
        """Indices of the arrays that come before the row."""
        return () if self.layer is None else (self.layer,)

    def single_layer(self) -> "KVCache":
        """The cache without the other layers, for reading only: what reads it reads the slice in place."""
        k_BWKH, v_BWKH, index_BW, start_BW = (
            x[self.layer_index] for x in (self.k_BWKH, self.v_BWKH, self.index_BW, self.start_BW)
        )
        return KVCache(k_BWKH, v_BWKH, index_BW, start_BW)

    def write(self, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: TokenPositions) -> "KVCache":
        """Write each token into its slot. Padding, and tokens that the cache does not retain, are dropped."""
        j_BT, slot_BT = tokens.index_BT, self.slots(tokens)
        row_B1 = jnp.arange(j_BT.shape[0])[:, None]

        def put(old, new):
            target = old.at[(*self.layer_index, row_B1, slot_BT)]
            return target.set(new.astype(old.dtype), mode="drop", unique_indices=True)

        return self.replace(
            k_BWKH=put(self.k_BWKH, k_BTKH),
            v_BWKH=put(self.v_BWKH, v_BTKH),
            index_BW=put(self.index_BW, j_BT),
            start_BW=put(self.start_BW, tokens.start_BT),
        )

    def slots(self, tokens: TokenPositions) -> jax.Array:
        """Return slot_BT: j mod W for token j; a token that is not retained gets a slot of its own from W on."""
        slots, j_BT = self.index_BW.shape[-1], tokens.index_BT
        dropped_T = slots + jnp.arange(j_BT.shape[1], dtype=jnp.int32)
        if self.offset is not None:
            inside_BT = (j_BT >= self.offset) & (j_BT < self.offset + slots)
            return jnp.where(tokens.real_BT & inside_BT, j_BT - self.offset, dropped_T)
        newest_B1 = jnp.max(jnp.where(tokens.real_BT, j_BT, -1), axis=1, keepdims=True)
        retained_BT = (j_BT < slots) if self.retention.first is not None else (j_BT > newest_B1 - slots)
        return jnp.where(tokens.real_BT & retained_BT, j_BT % slots, dropped_T)

    def update(self, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: TokenPositions) -> tuple["KVCache", "KVCache"]:
        """Return the keys that this call's queries attend to, and the cache after the call.

        Several new tokens may overwrite slots of a ring that the first of them still sees, so they attend to the old
        ring and the new keys. Rows from their first token on attend to each other alone.
        """
        after, new = self.write(k_BTKH, v_BTKH, tokens), KVCache.of(k_BTKH, v_BTKH, tokens)
        if tokens.from_start:
            return new, after
        if self.retention.last is None or tokens.index_BT.shape[1] == 1:
            return after, after
        attended = jax.tree.map(
            lambda old, new: jnp.concatenate([old, new.astype(old.dtype)], axis=1), self.single_layer(), new
        )
        return attended, after


def index_or_empty(tokens: TokenPositions) -> jax.Array:
    """Return index_BT, -1 for padding."""
    return jnp.where(tokens.real_BT, tokens.index_BT, -1)


def with_layer(cache: Any, layer: jax.Array | None) -> Any:
    """Set the layer of every KVCache in a cache of all layers; None: of none again. Other leaves stay as they are."""

    def replace(x):
        return x.replace(layer=layer) if isinstance(x, KVCache) else x

    return jax.tree.map(replace, cache, is_leaf=lambda x: isinstance(x, KVCache))
