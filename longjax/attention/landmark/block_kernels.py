"""Landmark's attention to blocks by Triton kernels, where the back end of attention is one of theirs.

Letters as in memory.py.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from longjax.attention.core import AttentionBackend
from longjax.attention.fused import Fused, log_once
from longjax.attention.kernels.triton import Triton
from longjax.attention.kernels.triton_landmark import LandmarkKeys, LandmarkQueries, TritonLandmark
from longjax.attention.landmark.blocks import (
    BlockAttention,
    Blocks,
    ChunkQueries,
    GatheredBlocks,
    attend_to_blocks,
    block_positions,
    map_query_tiles,
    rotated_at,
    stingy_slots,
)
from longjax.attention.rope import Rope

MAX_QUERY_BYTES = 2**29  # of rotated queries that may exist at once


def block_attention_for(backend: AttentionBackend, q_BTNH: jax.Array, block: int) -> BlockAttention:
    """Return the kernels if `backend` is Triton's and they support the queries, else `GatheredBlocks`.

    A log line names what they do not support. The back end of decoding has no kernels: a single query's copies are
    small.
    """
    general = backend.fallback if isinstance(backend, Fused) else backend
    if not isinstance(general, Triton):
        return GatheredBlocks()
    kernel = TritonLandmark(interpret=general.interpret)
    reason = kernel.unsupported_reason(q_BTNH, block)
    if reason:
        log_once(f"Landmark's {reason}", GatheredBlocks())
    return GatheredBlocks() if reason else KernelBlocks(kernel)


@dataclasses.dataclass(frozen=True)
class KernelBlocks:
    """Attention to blocks by kernels; the gradient is that of `GatheredBlocks`."""

    kernel: TritonLandmark

    def choose(self, queries, blocks, rope, top_k):
        queries, blocks, rope = jax.lax.stop_gradient((queries, blocks, rope))
        rotated = landmark_queries(queries, blocks, rope, 1, top_k)
        return self.kernel.choose(rotated, blocks.landmarks, blocks.index_BMC[:, :, -1], top_k)

    def attend(self, queries, block_BTNJ, blocks, rope, top_k, chunk_blocks) -> jax.Array:
        return kernel_attention(self.kernel, (top_k, chunk_blocks), queries, block_BTNJ, blocks, rope)

    def max_queries(self, queries, blocks, top_k, chunk_blocks):
        B, _, N, H = queries.q_BTNH.shape
        return max(1, MAX_QUERY_BYTES // (B * N * (top_k + chunk_blocks + 1) * H * queries.q_BTNH.dtype.itemsize))


def landmark_queries(
    queries: ChunkQueries, blocks: Blocks, rope: Rope, chunk_blocks: int, top_k: int
) -> LandmarkQueries:
    """Rotate queries to their positions as seen from each block that they may attend to."""
    position_BTP = block_positions(queries, blocks.index_BMC.shape[2], 1 - chunk_blocks, top_k + 1)
    q_BTPNH = rotated_at(queries.q_BTNH, position_BTP, rope)
    return LandmarkQueries(q_BTPNH, queries.tokens.index_BT, queries.tokens.start_BT, queries.past_BT)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def kernel_attention(
    kernel: TritonLandmark,
    sizes: tuple[int, int],
    queries: ChunkQueries,
    block_BTNJ: jax.Array,
    blocks: Blocks,
    rope: Rope,
) -> jax.Array:
    """Return out_BTNH. sizes: top_k and chunk_blocks."""
    top_k, chunk_blocks = sizes
    p_BTNJ = stingy_slots(queries, block_BTNJ, top_k) + chunk_blocks - 1
    k, v = (x if blocks.layer_index else x[None] for x in (blocks.k_BMCKH, blocks.v_BMCKH))
    layer = jnp.asarray(blocks.layer_index or (0,), jnp.int32)
    rotated = landmark_queries(queries, blocks, rope, chunk_blocks, top_k)
    return kernel.attend(rotated, block_BTNJ, p_BTNJ, LandmarkKeys(k, v, blocks.index_BMC, layer), chunk_blocks)


def _kernel_attention_forward(kernel, sizes, *args):
    return kernel_attention(kernel, sizes, *args), args


def _kernel_attention_backward(kernel, sizes, args, d_out_BTNH):
    """By `GatheredBlocks`, of as many queries at a time as fit."""
    top_k, chunk_blocks = sizes

    def gathered(queries, block_BTNJ, blocks, rope):
        @jax.checkpoint
        def attend(queries, block_BTNJ):
            return attend_to_blocks(queries, block_BTNJ, blocks, rope, top_k, chunk_blocks)

        max_queries = GatheredBlocks().max_queries(queries, blocks, top_k, chunk_blocks)
        return map_query_tiles(attend, max_queries, queries, block_BTNJ)

    return jax.vjp(gathered, *args)[1](d_out_BTNH)


kernel_attention.defvjp(_kernel_attention_forward, _kernel_attention_backward)
