"""Landmark attention at inference: the cache is a memory of blocks, of which every query opens a few.

Mohtashami and Jaggi 2023, arXiv:2305.16300, section 3.2. A query attends to its chunk at true positions, and opens the
`top_k` blocks before the chunk whose landmarks score best. These stand nearer than they are ("stingy positions"): the
c-th latest of them stands c + 1 blocks before the chunk, one further if it is not among the last `top_k` blocks. So no
distance is larger than in training. A key is rotated once, by its offset in its block; the query once for each slot.

Letters as in rope.py; M blocks, C tokens of a block (its landmark last), J blocks opened, U blocks attended to,
P positions of a query.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from longjax.attention.core import MASK_VALUE, MAX_INDEX, AttentionMetadata
from longjax.attention.intervals import CacheRetention
from longjax.attention.kv_cache import KVCache
from longjax.attention.landmark.block_kernels import block_attention_for
from longjax.attention.landmark.blocks import Blocks, ChunkQueries, landmark_scores, map_query_tiles, top_blocks
from longjax.attention.rope import rotate, scale_queries
from longjax.config import ModelConfig


class ScorePooling(Protocol):
    """Which queries and heads choose blocks together. A frozen dataclass."""

    whole_call: bool  # whether it needs all queries of a call at once

    def __call__(self, score_BTNM: jax.Array, queries: ChunkQueries) -> jax.Array:
        """Return the score_BTNM of the choice. Blocks that may not be opened have MASK_VALUE, before and after."""
        ...


@dataclasses.dataclass(frozen=True)
class PerToken:
    """Every token and head chooses for itself."""

    whole_call = False

    def __call__(self, score_BTNM, queries):
        return score_BTNM


@dataclasses.dataclass(frozen=True)
class PerChunk:
    """All tokens of a chunk in this call choose together, by the largest softmax weight that one of them gives a block.

    A token's choice then depends on later tokens of its chunk, and decoding differs from a single pass.
    """

    whole_call = True

    def __call__(self, score_BTNM, queries):
        counts_BTNM = (score_BTNM > MASK_VALUE) & queries.tokens.real_BT[:, :, None, None]
        share_BTNM = jnp.where(counts_BTNM, jax.nn.softmax(score_BTNM, axis=-1), MASK_VALUE)
        starts_BT = jnp.diff(queries.past_BT, axis=1, prepend=queries.past_BT[:, :1]) != 0
        chunk_BT, row_B1 = jnp.cumsum(starts_BT, axis=1), jnp.arange(starts_BT.shape[0])[:, None]
        return jnp.full_like(share_BTNM, MASK_VALUE).at[row_B1, chunk_BT].max(share_BTNM)[row_B1, chunk_BT]


@dataclasses.dataclass(frozen=True)
class LandmarkMemory:
    """Landmark attention at inference.

    Attributes:
      block: tokens of a block, its landmark included.
      top_k: number of blocks that are opened.
      pool: which queries and heads choose together.
      chunk: number of blocks of a chunk, whose queries share one past, so that the split of a text into calls does
        not matter; None: each call is a chunk, as in the authors' code.
      choose: (score_BTNM, top_k) -> block_BTNJ in any order, -1 for none. Only audits replace it.

    """

    block: int
    top_k: int
    pool: ScorePooling = PerToken()
    chunk: int | None = 1
    choose: Callable[[jax.Array, int], jax.Array] = top_blocks

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        keys = metadata.keys
        after = self.new_cache(k_BSKH) if cache is None else cache
        offset_BS = (keys.index_BT % self.block).astype(jnp.float32)
        after = after.write(rotate(k_BSKH, offset_BS, metadata.rope), v_BSKH, keys)
        blocks, backend = Blocks.of(after, self.block), block_attention_for(metadata.backend, q_BTNH, self.block)
        chunk_blocks, rope, top_k = self.blocks_in_chunk(k_BSKH.shape[1]), metadata.rope, self.top_k
        all_queries = ChunkQueries(scale_queries(q_BTNH, rope), metadata.queries, self.num_past_blocks(metadata))

        def choose(queries: ChunkQueries) -> jax.Array:
            if self.pool == PerToken() and self.choose is top_blocks:
                return backend.choose(queries, blocks, rope, top_k)
            return self.choose(self.pool(landmark_scores(queries, blocks, rope, top_k), queries), top_k)

        def attend(queries: ChunkQueries, block_BTNJ: jax.Array) -> jax.Array:
            return backend.attend(queries, block_BTNJ, blocks, rope, top_k, chunk_blocks)

        max_queries = backend.max_queries(all_queries, blocks, top_k, chunk_blocks)
        if self.pool.whole_call:
            out_BTNH = map_query_tiles(attend, max_queries, all_queries, choose(all_queries))
        else:
            out_BTNH = map_query_tiles(lambda queries: attend(queries, choose(queries)), max_queries, all_queries)
        return out_BTNH, None if cache is None else after

    def num_past_blocks(self, metadata: AttentionMetadata) -> jax.Array:
        """Return past_BT, how many blocks lie before the chunk of each query."""
        index_BT = metadata.queries.index_BT
        if self.chunk is not None:
            return index_BT // (self.block * self.chunk) * self.chunk
        first_B1 = jnp.min(jnp.where(metadata.keys.real_BT, metadata.keys.index_BT, MAX_INDEX), axis=1, keepdims=True)
        return jnp.broadcast_to(first_B1 // self.block, index_BT.shape)

    def blocks_in_chunk(self, length: int) -> int:
        """Largest number of blocks of a chunk, in a call of `length` tokens."""
        return self.chunk or (length + self.block - 2) // self.block + 1

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> KVCache:
        """Return the empty cache of one layer, with slots for whole blocks."""
        return KVCache.empty(cfg, batch, size + -size % self.block, CacheRetention())

    def new_cache(self, k_BSKH: jax.Array) -> KVCache:
        """Return an empty cache for the tokens of one call, from index 0."""
        padding = -k_BSKH.shape[1] % self.block
        zeros_BWKH = jnp.pad(jnp.zeros_like(k_BSKH), [(0, 0), (0, padding), (0, 0), (0, 0)])
        empty_BW = jnp.full(zeros_BWKH.shape[:2], -1, jnp.int32)
        return KVCache(zeros_BWKH, zeros_BWKH, empty_BW, empty_BW)
