"""The key-value cache: copies of the keys, each rotated once and for good to the place its branches want.

A store keeps all tokens, a ring of the last W, or the first G. Letters as in rope.py; W slots of a store.
"""

import jax
import jax.numpy as jnp
from flax import struct

from longjax.attention import Tokens
from longjax.config import ModelConfig
from longjax.intervals import Kept


class Store(struct.PyTreeNode):
    """Keys and values of the tokens it keeps; `index_BW` says which token lies in a slot, -1: none.

    A device may hold a piece of a store that keeps all tokens: the one that begins with token `offset`.
    """

    k_BWKH: jax.Array
    v_BWKH: jax.Array
    index_BW: jax.Array
    start_BW: jax.Array  # of the token's document
    offset: jax.Array | None = None
    kept: Kept = struct.field(pytree_node=False, default=Kept())

    @classmethod
    def empty(cls, cfg: ModelConfig, batch: int, size: int, kept: Kept) -> "Store":
        slots = kept.size(size)
        zeros = jnp.zeros((batch, slots, cfg.kv_heads, cfg.head_dim), cfg.dtype)
        none = jnp.full((batch, slots), -1, jnp.int32)
        return cls(zeros, zeros, none, none, kept=kept)

    def write(self, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: Tokens) -> "Store":
        """Puts each token into its slot. Padding, and what the store would not keep, is dropped."""
        j_BT, slot_BT = tokens.index_BT, self.slot(tokens)
        row_B1 = jnp.arange(j_BT.shape[0])[:, None]

        def put(old, new):
            return old.at[row_B1, slot_BT].set(new.astype(old.dtype), mode="drop")

        return self.replace(
            k_BWKH=put(self.k_BWKH, k_BTKH), v_BWKH=put(self.v_BWKH, v_BTKH),
            index_BW=put(self.index_BW, j_BT), start_BW=put(self.start_BW, tokens.start_BT),
        )  # fmt: skip

    def slot(self, tokens: Tokens) -> jax.Array:
        """-> slot_BT: token j belongs into slot j mod W; W, which does not exist, for those that are not kept."""
        slots, j_BT = self.index_BW.shape[1], tokens.index_BT
        if self.offset is not None:
            inside_BT = (j_BT >= self.offset) & (j_BT < self.offset + slots)
            return jnp.where(tokens.real_BT & inside_BT, j_BT - self.offset, slots)
        newest_B1 = jnp.max(jnp.where(tokens.real_BT, j_BT, -1), axis=1, keepdims=True)
        stays_BT = (j_BT < slots) if self.kept.first is not None else (j_BT > newest_B1 - slots)
        return jnp.where(tokens.real_BT & stays_BT, j_BT % slots, slots)

    def seen_with(self, k_BTKH: jax.Array, v_BTKH: jax.Array, tokens: Tokens) -> tuple["Store", "Store"]:
        """-> (what this call's queries look at, the store after the call).

        A ring forgets while it is written, so several new tokens look at the old ring and the new keys.
        """
        after = self.write(k_BTKH, v_BTKH, tokens)
        if self.kept.last is None or tokens.index_BT.shape[1] == 1:
            return after, after
        index_BT = jnp.where(tokens.real_BT, tokens.index_BT, -1)
        seen = self.replace(
            k_BWKH=jnp.concatenate([self.k_BWKH, k_BTKH.astype(self.k_BWKH.dtype)], axis=1),
            v_BWKH=jnp.concatenate([self.v_BWKH, v_BTKH.astype(self.v_BWKH.dtype)], axis=1),
            index_BW=jnp.concatenate([self.index_BW, index_BT], axis=1),
            start_BW=jnp.concatenate([self.start_BW, tokens.start_BT], axis=1),
        )
        return seen, after
