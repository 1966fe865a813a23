"""Blocks of keys that each query chooses for itself: their scores, and attention to those that it opens.

Mohtashami and Jaggi 2023, arXiv:2305.16300, section 3.2. Everything here is made for some queries at a time, as each
query and head has its own copies of the blocks that it opens. Letters as in landmark_memory.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from longjax.attention.core import MASK_VALUE, TokenPositions
from longjax.attention.kv_cache import KVCache
from longjax.attention.landmark.dense import grouped_softmax
from longjax.attention.rope import Rope, rotate


class ChunkQueries(struct.PyTreeNode):
    """Queries, unrotated, and how many blocks lie before the chunk of each."""

    q_BTNH: jax.Array
    tokens: TokenPositions
    past_BT: jax.Array


def top_blocks(score_BTNM: jax.Array, top_k: int) -> jax.Array:
    """-> block_BTNJ: the highest scores, equal ones from the earliest block; -1 where fewer may be opened."""
    top_BTNJ, block_BTNJ = jax.lax.top_k(score_BTNM, min(top_k, score_BTNM.shape[-1]))
    return jnp.where(top_BTNJ > MASK_VALUE, block_BTNJ, -1)


class Blocks(struct.PyTreeNode):
    """The store by blocks. index_BMC is -1 where no token has come yet; `at`: which layer, where there are several."""

    k_BMCKH: jax.Array
    v_BMCKH: jax.Array
    index_BMC: jax.Array
    at: tuple[jax.Array, ...]

    @classmethod
    def of(cls, store: KVCache, block: int) -> "Blocks":
        lead = store.index_BW.shape[:-1]

        def cut(x):
            return x.reshape(*lead, -1, block, *x.shape[len(lead) + 1 :])

        return cls(cut(store.k_BWKH), cut(store.v_BWKH), cut(store.index_BW)[store.at], store.at)

    @property
    def landmarks(self) -> jax.Array:
        """-> k_BMKH of the last token of each block."""
        return self.k_BMCKH[(*self.at, slice(None), slice(None), -1)]

    def take(self, block_BTNU: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """-> k_BTNUCH, v_BTNUCH, index_BTNUC: one copy a query and head; index -1 if no such block exists."""
        N, K = block_BTNU.shape[2], self.k_BMCKH.shape[-2]
        row, head = jnp.arange(block_BTNU.shape[0])[:, None, None, None], (jnp.arange(N) // (N // K))[:, None]
        place = (*self.at, row, block_BTNU, slice(None), head)
        k_BTNUCH, v_BTNUCH = (x.at[place].get(mode="clip") for x in (self.k_BMCKH, self.v_BMCKH))
        index_BTNUC = self.index_BMC.at[row, block_BTNU].get(mode="fill", fill_value=-1)
        return k_BTNUCH, v_BTNUCH, index_BTNUC


class BlockAttention(Protocol):
    """How blocks are chosen and attended to. A frozen dataclass. `here`: see `attend`."""

    def choose(self, asked: ChunkQueries, blocks: Blocks, rope: Rope, top_k: int) -> jax.Array:
        """-> block_BTNJ, each query and head for itself, as `best` does."""
        ...

    def attend(
        self, asked: ChunkQueries, block_BTNJ: jax.Array, blocks: Blocks, rope: Rope, top_k: int, here: int
    ) -> jax.Array:
        """-> out_BTNH."""
        ...

    def max_queries(self, asked: ChunkQueries, blocks: Blocks, top_k: int, here: int) -> int:
        """-> how many queries of every row at a time."""
        ...


def rotated_at(q_BTNH: jax.Array, place_BTP: jax.Array, rope: Rope) -> jax.Array:
    """-> q_BTPNH: the queries rotated to each of their places."""
    B, T, P = place_BTP.shape
    q_BTPNH = jnp.broadcast_to(q_BTNH[:, :, None], (B, T, P, *q_BTNH.shape[2:]))
    return rotate(q_BTPNH.reshape(B, T * P, *q_BTNH.shape[2:]), place_BTP.reshape(B, T * P), rope).reshape(
        q_BTPNH.shape
    )


def block_positions(asked: ChunkQueries, block: int, first: int, last: int) -> jax.Array:
    """-> place_BTP: where queries stand, seen from blocks that pretend to be first .. last blocks before the chunk."""
    into_BT = asked.tokens.index_BT - asked.past_BT * block
    return into_BT[:, :, None] + jnp.arange(first, last + 1) * block


def landmark_scores(asked: ChunkQueries, blocks: Blocks, rope: Rope, top_k: int) -> jax.Array:
    """-> score_BTNM: the last top_k blocks stand in place, all earlier ones one block before them."""
    B, T, N, H = asked.q_BTNH.shape
    (M, C), K = blocks.index_BMC.shape[1:], blocks.k_BMCKH.shape[-2]
    q_BTPNH = rotated_at(asked.q_BTNH, block_positions(asked, C, 1, top_k + 1), rope)
    q_BTPKGH = q_BTPNH.reshape(B, T, -1, K, N // K, H)
    k_BMKH = blocks.landmarks
    near_BTJ = asked.past_BT[:, :, None] - jnp.arange(1, top_k + 1)
    k_BTJKH = k_BMKH.at[jnp.arange(B)[:, None, None], near_BTJ].get(mode="clip")
    far = jnp.einsum("BTKGH,BMKH->BTKGM", q_BTPKGH[:, :, -1], k_BMKH, preferred_element_type=jnp.float32)
    near = jnp.einsum("BTJKGH,BTJKH->BTKGJ", q_BTPKGH[:, :, :-1], k_BTJKH, preferred_element_type=jnp.float32)
    ago_BTM = asked.past_BT[:, :, None] - jnp.arange(M)
    rank_BT1M = jnp.clip(ago_BTM - 1, 0, top_k - 1)[:, :, None]
    near_BTNM = jnp.take_along_axis(near.reshape(B, T, N, top_k), rank_BT1M, axis=-1)
    score_BTNM = jnp.where(ago_BTM[:, :, None] > top_k, far.reshape(B, T, N, M), near_BTNM) * H**-0.5
    may_BTM = (ago_BTM > 0) & (blocks.index_BMC[:, None, :, -1] >= asked.tokens.start_BT[:, :, None])
    return jnp.where(may_BTM[:, :, None], score_BTNM, MASK_VALUE)


def attend_to_blocks(
    asked: ChunkQueries, block_BTNJ: jax.Array, blocks: Blocks, rope: Rope, top_k: int, here: int
) -> jax.Array:
    """-> out_BTNH. `here` blocks from the beginning of the chunk stand in place."""
    M, C = blocks.index_BMC.shape[1:]
    index_BT11, start_BT11 = (x[:, :, None, None] for x in (asked.tokens.index_BT, asked.tokens.start_BT))
    block_BTNU, ago_BTNU = attended_blocks(asked, block_BTNJ, top_k, here, M)
    q_BTPNH = rotated_at(asked.q_BTNH, block_positions(asked, C, 1 - here, top_k + 1), rope)
    q_BTNUH = jnp.take_along_axis(jnp.moveaxis(q_BTPNH, 2, 3), ago_BTNU[..., None] + here - 1, axis=3)
    k_BTNUCH, v_BTNUCH, index_BTNUC = blocks.take(block_BTNU)
    x_BTNUC = jnp.einsum("BTNUH,BTNUCH->BTNUC", q_BTNUH, k_BTNUCH, preferred_element_type=jnp.float32)
    seen_BTNUC = (index_BTNUC >= start_BT11[..., None]) & (index_BTNUC <= index_BT11[..., None])
    weight_BTNUC = grouped_softmax(x_BTNUC * q_BTNUH.shape[-1] ** -0.5, seen_BTNUC, block_BTNU == index_BT11 // C)
    out_BTNH = jnp.einsum(
        "BTNUC,BTNUCH->BTNH", weight_BTNUC.astype(v_BTNUCH.dtype), v_BTNUCH, preferred_element_type=jnp.float32
    )
    return out_BTNH.astype(asked.q_BTNH.dtype)


def attended_blocks(asked: ChunkQueries, block_BTNJ: jax.Array, top_k: int, here: int, none: int):
    """-> block_BTNU (`none` for none), ago_BTNU: how many blocks before the chunk's first they pretend to stand."""
    past_BT11, shape = asked.past_BT[:, :, None, None], block_BTNJ.shape[:3]
    ahead = jnp.arange(here)
    chunk = jnp.broadcast_to(past_BT11 + ahead, (*shape, here))
    block_BTNU = jnp.concatenate([chunk, jnp.where(block_BTNJ < 0, none, block_BTNJ)], axis=-1)
    slot_BTNJ = slots(asked, block_BTNJ, top_k)
    return block_BTNU, jnp.concatenate([jnp.broadcast_to(-ahead, (*shape, here)), slot_BTNJ], axis=-1)


def slots(asked: ChunkQueries, block_BTNJ: jax.Array, top_k: int) -> jax.Array:
    """-> slot_BTNJ: how many blocks before the chunk each opened one pretends to stand."""
    is_later = block_BTNJ[..., None, :] > block_BTNJ[..., None]
    is_far = asked.past_BT[:, :, None, None] - block_BTNJ > top_k
    return 1 + jnp.sum(is_later, axis=-1, dtype=jnp.int32) + is_far.astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class GatheredBlocks:
    """The specification of a `Way`, on any machine: every query and head has its own copies of what it opens."""

    def choose(self, asked, blocks, rope, top_k):
        return top_blocks(landmark_scores(asked, blocks, rope, top_k), top_k)

    def attend(self, asked, block_BTNJ, blocks, rope, top_k, here):
        return attend_to_blocks(asked, block_BTNJ, blocks, rope, top_k, here)

    def max_queries(self, asked, blocks, top_k, here):
        (B, _, N, H), (M, C) = asked.q_BTNH.shape, blocks.index_BMC.shape[1:]
        copies = 2 * (top_k + here) * C * H * blocks.k_BMCKH.dtype.itemsize
        return max(1, room() // (B * N * (4 * M + copies)))


def room() -> int:
    """-> bytes of scores and copied blocks that may exist at once: on a CPU what its caches hold."""
    return 2**23 if jax.default_backend() == "cpu" else 2**29


def in_tiles(f: Callable[..., jax.Array], most: int, *given: Any) -> jax.Array:
    """f of arrays [B, T, ...], of at most so many queries at a time."""
    T = jax.tree.leaves(given)[0].shape[1]
    tiles = -(-T // most)
    tile = -(-T // tiles)  # all are about as large
    if tiles == 1:
        return f(*given)

    def split(x):
        x = jnp.pad(x, [(0, 0), (0, -T % tile)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, tile, *x.shape[2:]), 1, 0)

    y = jnp.moveaxis(jax.lax.map(lambda some: f(*some), jax.tree.map(split, given)), 0, 1)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :T]
