"""Scores of blocks of keys, and attention to those that a query opens: the specification of Landmark's kernels.

Mohtashami and Jaggi 2023, arXiv:2305.16300, section 3.2. Everything is computed for some queries at a time, as each
query and head has its own copies of the blocks that it opens. Letters as in memory.py.
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
    """Queries, not rotated, and how many blocks lie before the chunk of each."""

    q_BTNH: jax.Array
    tokens: TokenPositions
    past_BT: jax.Array


def top_blocks(score_BTNM: jax.Array, top_k: int) -> jax.Array:
    """Return block_BTNJ of the highest scores, equal ones from the earliest block; -1 where fewer may be opened."""
    top_BTNJ, block_BTNJ = jax.lax.top_k(score_BTNM, min(top_k, score_BTNM.shape[-1]))
    return jnp.where(top_BTNJ > MASK_VALUE, block_BTNJ, -1)


class Blocks(struct.PyTreeNode):
    """A cache by blocks. index_BMC is -1 at empty slots; `layer_index` is empty if the arrays hold one layer."""

    k_BMCKH: jax.Array
    v_BMCKH: jax.Array
    index_BMC: jax.Array
    layer_index: tuple[jax.Array, ...]

    @classmethod
    def of(cls, cache: KVCache, block: int) -> "Blocks":
        """The slots of a cache in blocks of `block`."""
        lead, at = cache.index_BW.shape[:-1], cache.layer_index

        def split(x):
            return x.reshape(*lead, -1, block, *x.shape[len(lead) + 1 :])

        return cls(split(cache.k_BWKH), split(cache.v_BWKH), split(cache.index_BW)[at], at)

    @property
    def landmarks(self) -> jax.Array:
        """k_BMKH of the last token of each block."""
        return self.k_BMCKH[(*self.layer_index, slice(None), slice(None), -1)]

    def take(self, block_BTNU: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return k_BTNUCH, v_BTNUCH, index_BTNUC, a copy for each query and head; index -1 of no such block."""
        N, K = block_BTNU.shape[2], self.k_BMCKH.shape[-2]
        row, head = jnp.arange(block_BTNU.shape[0])[:, None, None, None], (jnp.arange(N) // (N // K))[:, None]
        source = (*self.layer_index, row, block_BTNU, slice(None), head)
        k_BTNUCH, v_BTNUCH = (x.at[source].get(mode="clip") for x in (self.k_BMCKH, self.v_BMCKH))
        index_BTNUC = self.index_BMC.at[row, block_BTNU].get(mode="fill", fill_value=-1)
        return k_BTNUCH, v_BTNUCH, index_BTNUC


class BlockAttention(Protocol):
    """An implementation of the choice of blocks and of attention to them. A frozen dataclass."""

    def choose(self, queries: ChunkQueries, blocks: Blocks, rope: Rope, top_k: int) -> jax.Array:
        """Return block_BTNJ of each query and head, as `top_blocks` of `landmark_scores` does."""
        ...

    def attend(
        self, queries: ChunkQueries, block_BTNJ: jax.Array, blocks: Blocks, rope: Rope, top_k: int, chunk_blocks: int
    ) -> jax.Array:
        """Return out_BTNH, as `attend_to_blocks` does."""
        ...

    def max_queries(self, queries: ChunkQueries, blocks: Blocks, top_k: int, chunk_blocks: int) -> int:
        """Return how many queries of each row to compute at a time."""
        ...


def rotated_at(q_BTNH: jax.Array, position_BTP: jax.Array, rope: Rope) -> jax.Array:
    """Return q_BTPNH, the queries rotated to each of their positions."""
    B, T, P = position_BTP.shape
    q_BTPNH = jnp.broadcast_to(q_BTNH[:, :, None], (B, T, P, *q_BTNH.shape[2:]))
    rotated = rotate(q_BTPNH.reshape(B, T * P, *q_BTNH.shape[2:]), position_BTP.reshape(B, T * P), rope)
    return rotated.reshape(q_BTPNH.shape)


def block_positions(queries: ChunkQueries, block: int, first: int, last: int) -> jax.Array:
    """Return position_BTP of queries relative to blocks that stand first .. last blocks before the chunk."""
    offset_BT = queries.tokens.index_BT - queries.past_BT * block
    return offset_BT[:, :, None] + jnp.arange(first, last + 1) * block


def landmark_scores(queries: ChunkQueries, blocks: Blocks, rope: Rope, top_k: int) -> jax.Array:
    """Return score_BTNM of landmarks; MASK_VALUE where a block may not be opened.

    The last top_k blocks before the chunk stand at their true positions, all earlier ones one block before them.
    """
    B, T, N, H = queries.q_BTNH.shape
    (M, C), K = blocks.index_BMC.shape[1:], blocks.k_BMCKH.shape[-2]
    q_BTPNH = rotated_at(queries.q_BTNH, block_positions(queries, C, 1, top_k + 1), rope)
    q_BTPKGH = q_BTPNH.reshape(B, T, -1, K, N // K, H)
    k_BMKH = blocks.landmarks
    near_BTJ = queries.past_BT[:, :, None] - jnp.arange(1, top_k + 1)
    k_BTJKH = k_BMKH.at[jnp.arange(B)[:, None, None], near_BTJ].get(mode="clip")
    far = jnp.einsum("BTKGH,BMKH->BTKGM", q_BTPKGH[:, :, -1], k_BMKH, preferred_element_type=jnp.float32)
    near = jnp.einsum("BTJKGH,BTJKH->BTKGJ", q_BTPKGH[:, :, :-1], k_BTJKH, preferred_element_type=jnp.float32)
    distance_BTM = queries.past_BT[:, :, None] - jnp.arange(M)
    rank_BT1M = jnp.clip(distance_BTM - 1, 0, top_k - 1)[:, :, None]
    near_BTNM = jnp.take_along_axis(near.reshape(B, T, N, top_k), rank_BT1M, axis=-1)
    score_BTNM = jnp.where(distance_BTM[:, :, None] > top_k, far.reshape(B, T, N, M), near_BTNM) * H**-0.5
    allowed_BTM = (distance_BTM > 0) & (blocks.index_BMC[:, None, :, -1] >= queries.tokens.start_BT[:, :, None])
    return jnp.where(allowed_BTM[:, :, None], score_BTNM, MASK_VALUE)


def attend_to_blocks(
    queries: ChunkQueries, block_BTNJ: jax.Array, blocks: Blocks, rope: Rope, top_k: int, chunk_blocks: int
) -> jax.Array:
    """Attend to the chunk's own blocks and to the opened ones.

    Args:
      queries: of some tokens.
      block_BTNJ: the opened blocks of each query and head, -1 for none.
      blocks: the cache.
      rope: frequencies.
      top_k: number of blocks that may be opened.
      chunk_blocks: number of blocks of a chunk, which stand at their true positions.

    Returns:
      out_BTNH.

    """
    M, C = blocks.index_BMC.shape[1:]
    index_BT11, start_BT11 = (x[:, :, None, None] for x in (queries.tokens.index_BT, queries.tokens.start_BT))
    block_BTNU, distance_BTNU = attended_blocks(queries, block_BTNJ, top_k, chunk_blocks, M)
    q_BTPNH = rotated_at(queries.q_BTNH, block_positions(queries, C, 1 - chunk_blocks, top_k + 1), rope)
    q_BTNUH = jnp.take_along_axis(jnp.moveaxis(q_BTPNH, 2, 3), distance_BTNU[..., None] + chunk_blocks - 1, axis=3)
    k_BTNUCH, v_BTNUCH, index_BTNUC = blocks.take(block_BTNU)
    x_BTNUC = jnp.einsum("BTNUH,BTNUCH->BTNUC", q_BTNUH, k_BTNUCH, preferred_element_type=jnp.float32)
    visible_BTNUC = (index_BTNUC >= start_BT11[..., None]) & (index_BTNUC <= index_BT11[..., None])
    weight_BTNUC = grouped_softmax(x_BTNUC * q_BTNUH.shape[-1] ** -0.5, visible_BTNUC, block_BTNU == index_BT11 // C)
    out_BTNH = jnp.einsum(
        "BTNUC,BTNUCH->BTNH", weight_BTNUC.astype(v_BTNUCH.dtype), v_BTNUCH, preferred_element_type=jnp.float32
    )
    return out_BTNH.astype(queries.q_BTNH.dtype)


def attended_blocks(queries: ChunkQueries, block_BTNJ: jax.Array, top_k: int, chunk_blocks: int, no_block: int):
    """Return block_BTNU (`no_block` for none) and distance_BTNU, how many blocks before the chunk each stands."""
    past_BT11, shape = queries.past_BT[:, :, None, None], block_BTNJ.shape[:3]
    ahead = jnp.arange(chunk_blocks)
    chunk = jnp.broadcast_to(past_BT11 + ahead, (*shape, chunk_blocks))
    block_BTNU = jnp.concatenate([chunk, jnp.where(block_BTNJ < 0, no_block, block_BTNJ)], axis=-1)
    slot_BTNJ = stingy_slots(queries, block_BTNJ, top_k)
    return block_BTNU, jnp.concatenate([jnp.broadcast_to(-ahead, (*shape, chunk_blocks)), slot_BTNJ], axis=-1)


def stingy_slots(queries: ChunkQueries, block_BTNJ: jax.Array, top_k: int) -> jax.Array:
    """Return slot_BTNJ, how many blocks before the chunk each opened one stands ("stingy positions")."""
    is_later = block_BTNJ[..., None, :] > block_BTNJ[..., None]
    is_far = queries.past_BT[:, :, None, None] - block_BTNJ > top_k
    return 1 + jnp.sum(is_later, axis=-1, dtype=jnp.int32) + is_far.astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class GatheredBlocks:
    """The specification, on any machine: every query and head has its own copies of the blocks that it opens."""

    def choose(self, queries, blocks, rope, top_k):
        return top_blocks(landmark_scores(queries, blocks, rope, top_k), top_k)

    def attend(self, queries, block_BTNJ, blocks, rope, top_k, chunk_blocks):
        return attend_to_blocks(queries, block_BTNJ, blocks, rope, top_k, chunk_blocks)

    def max_queries(self, queries, blocks, top_k, chunk_blocks):
        (B, _, N, H), (M, C) = queries.q_BTNH.shape, blocks.index_BMC.shape[1:]
        copies = 2 * (top_k + chunk_blocks) * C * H * blocks.k_BMCKH.dtype.itemsize
        return max(1, max_bytes() // (B * N * (4 * M + copies)))


def max_bytes() -> int:
    """Bytes of scores and copied blocks that may exist at once: on a CPU what its caches hold."""
    return 2**23 if jax.default_backend() == "cpu" else 2**29


def map_query_tiles(f: Callable[..., jax.Array], max_queries: int, *args: Any) -> jax.Array:
    """Apply `f` to arrays [B, T, ...] in tiles of at most `max_queries` of the T."""
    T = jax.tree.leaves(args)[0].shape[1]
    tiles = -(-T // max_queries)
    tile = -(-T // tiles)  # all are about as large
    if tiles == 1:
        return f(*args)

    def split(x):
        x = jnp.pad(x, [(0, 0), (0, -T % tile)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, tile, *x.shape[2:]), 1, 0)

    y = jnp.moveaxis(jax.lax.map(lambda tile: f(*tile), jax.tree.map(split, args)), 0, 1)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :T]
