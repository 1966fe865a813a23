"""Landmark attention at inference: the past is a memory of blocks, of which every query opens a few.

Mohtashami and Jaggi 2023, arXiv:2305.16300, section 3.2. A query attends to its chunk in place, and opens the `top_k`
blocks before the chunk whose landmarks score best. These pretend to be nearer than they are ("stingy positions"):
the c-th latest of them stands c + 1 blocks before the chunk, one further if it is not among the last `top_k` blocks.
So no distance is larger than in training. A key is rotated once, by its offset in its block; the query once a slot.

Letters as in rope.py; M blocks, C tokens of a block (its landmark last), J blocks opened, U blocks attended to,
P places of a query.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from longjax.attention.core import MASK_VALUE, AttentionMetadata
from longjax.attention.intervals import CacheRetention
from longjax.attention.kv_cache import KVCache
from longjax.attention.landmark.block_kernels import block_attention_for
from longjax.attention.landmark.blocks import Blocks, ChunkQueries, in_tiles, landmark_scores, top_blocks
from longjax.attention.rope import rotate, scale_queries
from longjax.config import ModelConfig


class ScorePooling(Protocol):
    """Who chooses together. A frozen dataclass."""

    whole_call: bool  # it must see all queries of a call at once

    def __call__(self, score_BTNM: jax.Array, asked: ChunkQueries) -> jax.Array:
        """-> score_BTNM that the choice goes by. Blocks that may not be opened score NEVER, before and after."""
        ...


@dataclasses.dataclass(frozen=True)
class PerToken:
    """Every token and head chooses for itself."""

    whole_call = False

    def __call__(self, score_BTNM, asked):
        return score_BTNM


@dataclasses.dataclass(frozen=True)
class PerChunk:
    """All tokens of a chunk in this call choose together, by the largest share that one of them gives a block.

    A token's choice then depends on later tokens of its chunk, and decoding differs from a single pass.
    """

    whole_call = True

    def __call__(self, score_BTNM, asked):
        counts_BTNM = (score_BTNM > MASK_VALUE) & asked.tokens.real_BT[:, :, None, None]
        share_BTNM = jnp.where(counts_BTNM, jax.nn.softmax(score_BTNM, axis=-1), MASK_VALUE)
        begins_BT = jnp.diff(asked.past_BT, axis=1, prepend=asked.past_BT[:, :1]) != 0
        chunk_BT, row_B1 = jnp.cumsum(begins_BT, axis=1), jnp.arange(begins_BT.shape[0])[:, None]
        return jnp.full_like(share_BTNM, MASK_VALUE).at[row_B1, chunk_BT].max(share_BTNM)[row_B1, chunk_BT]


@dataclasses.dataclass(frozen=True)
class LandmarkMemory:
    """Attention with memory.

    Attributes:
      block: tokens of a block, its landmark included.
      top_k: how many blocks are opened.
      pool: who chooses together.
      chunk: queries of a chunk, of so many blocks, share one past, so that the split of a text into calls does not
        matter; None: each call is a chunk, as in the authors' code.
      choose: (score_BTNM, top_k) -> block_BTNJ in any order, -1 for none. Only audits replace it.

    """

    block: int
    top_k: int
    pool: ScorePooling = PerToken()
    chunk: int | None = 1
    choose: Callable[[jax.Array, int], jax.Array] = top_blocks

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        keys = metadata.keys
        store = self.new_cache(k_BSKH) if cache is None else cache
        offset_BS = (keys.index_BT % self.block).astype(jnp.float32)
        store = store.write(rotate(k_BSKH, offset_BS, metadata.rope), v_BSKH, keys)
        blocks = Blocks.of(store, self.block)
        here, way = self.blocks_in_chunk(k_BSKH.shape[1]), block_attention_for(metadata.backend, q_BTNH, self.block)
        asked = ChunkQueries(scale_queries(q_BTNH, metadata.rope), metadata.queries, self.num_past_blocks(metadata))

        def chosen(asked: ChunkQueries) -> jax.Array:
            if self.pool == PerToken() and self.choose is top_blocks:
                return way.choose(asked, blocks, metadata.rope, self.top_k)
            return self.choose(self.pool(landmark_scores(asked, blocks, metadata.rope, self.top_k), asked), self.top_k)

        def attended(asked: ChunkQueries, block_BTNJ: jax.Array) -> jax.Array:
            return way.attend(asked, block_BTNJ, blocks, metadata.rope, self.top_k, here)

        most = way.max_queries(asked, blocks, self.top_k, here)
        if self.pool.whole_call:
            out_BTNH = in_tiles(attended, most, asked, chosen(asked))
        else:
            out_BTNH = in_tiles(lambda asked: attended(asked, chosen(asked)), most, asked)
        return out_BTNH, None if cache is None else store

    def num_past_blocks(self, metadata: AttentionMetadata) -> jax.Array:
        """-> past_BT: how many blocks lie before the chunk of each query."""
        index_BT = metadata.queries.index_BT
        if self.chunk is not None:
            return index_BT // (self.block * self.chunk) * self.chunk
        first_B1 = jnp.min(jnp.where(metadata.keys.real_BT, metadata.keys.index_BT, 2**30), axis=1, keepdims=True)
        return jnp.broadcast_to(first_B1 // self.block, index_BT.shape)

    def blocks_in_chunk(self, call: int) -> int:
        """How many blocks a chunk may have, in a call of so many tokens."""
        return self.chunk or (call + self.block - 2) // self.block + 1

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> KVCache:
        return KVCache.empty(cfg, batch, size + -size % self.block, CacheRetention())

    def new_cache(self, k_BSKH: jax.Array) -> KVCache:
        """A store for the tokens of one call, from index 0."""
        more = -k_BSKH.shape[1] % self.block
        zeros_BWKH = jnp.pad(jnp.zeros_like(k_BSKH), [(0, 0), (0, more), (0, 0), (0, 0)])
        none_BW = jnp.full(zeros_BWKH.shape[:2], -1, jnp.int32)
        return KVCache(zeros_BWKH, zeros_BWKH, none_BW, none_BW)
