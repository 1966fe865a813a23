"""Blocks that queries choose, by the kernels of NVIDIA GPUs, where the softmax is one of theirs.

Letters as in landmark_memory.py.
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
    in_tiles,
    rotated_at,
    slots,
)
from longjax.attention.rope import Rope

ROOM = 2**29  # bytes of queries at all of their places that may exist at once


def block_attention_for(softmax: AttentionBackend, q_BTNH: jax.Array, block: int) -> BlockAttention:
    """-> the kernels where `softmax` is one of theirs and they can; why they cannot is said in a log line.

    That of decoding is not: a single query's copies are small.
    """
    general = softmax.fallback if isinstance(softmax, Fused) else softmax
    if not isinstance(general, Triton):
        return GatheredBlocks()
    kernel = TritonLandmark(interpret=general.interpret)
    why = kernel.unsupported_reason(q_BTNH, block)
    if why:
        log_once(f"Landmark's {why}", GatheredBlocks())
    return GatheredBlocks() if why else KernelBlocks(kernel)


@dataclasses.dataclass(frozen=True)
class KernelBlocks:
    """A `Way` whose gradient is that of `Copies`."""

    kernel: TritonLandmark

    def choose(self, asked, blocks, rope, top_k):
        asked, blocks, rope = jax.lax.stop_gradient((asked, blocks, rope))
        asks = landmark_queries(asked, blocks, rope, 1, top_k)
        return self.kernel.choose(asks, blocks.landmarks, blocks.index_BMC[:, :, -1], top_k)

    def attend(self, asked, block_BTNJ, blocks, rope, top_k, here) -> jax.Array:
        return kernel_attention(self.kernel, (top_k, here), asked, block_BTNJ, blocks, rope)

    def max_queries(self, asked, blocks, top_k, here):
        B, _, N, H = asked.q_BTNH.shape
        return max(1, ROOM // (B * N * (top_k + here + 1) * H * asked.q_BTNH.dtype.itemsize))


def landmark_queries(asked: ChunkQueries, blocks: Blocks, rope: Rope, here: int, top_k: int) -> LandmarkQueries:
    q_BTPNH = rotated_at(asked.q_BTNH, block_positions(asked, blocks.index_BMC.shape[2], 1 - here, top_k + 1), rope)
    return LandmarkQueries(q_BTPNH, asked.tokens.index_BT, asked.tokens.start_BT, asked.past_BT)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def kernel_attention(
    kernel: TritonLandmark,
    sizes: tuple[int, int],
    asked: ChunkQueries,
    block_BTNJ: jax.Array,
    blocks: Blocks,
    rope: Rope,
) -> jax.Array:
    """-> out_BTNH. sizes: top_k and here."""
    top_k, here = sizes
    place_BTNJ = slots(asked, block_BTNJ, top_k) + here - 1
    k, v = (x if blocks.at else x[None] for x in (blocks.k_BMCKH, blocks.v_BMCKH))
    layer = jnp.asarray(blocks.at or (0,), jnp.int32)
    gives = LandmarkKeys(k, v, blocks.index_BMC, layer)
    return kernel.attend(landmark_queries(asked, blocks, rope, here, top_k), block_BTNJ, place_BTNJ, gives, here)


def kernel_attention_forward(kernel, sizes, *given):
    return kernel_attention(kernel, sizes, *given), given


def kernel_attention_backward(kernel, sizes, given, d_out_BTNH):
    """By copies, of as many queries at a time as have room."""
    top_k, here = sizes

    def copied(asked, block_BTNJ, blocks, rope):
        opened = jax.checkpoint(
            lambda asked, block_BTNJ: attend_to_blocks(asked, block_BTNJ, blocks, rope, top_k, here)
        )
        return in_tiles(opened, GatheredBlocks().max_queries(asked, blocks, top_k, here), asked, block_BTNJ)

    return jax.vjp(copied, *given)[1](d_out_BTNH)


kernel_attention.defvjp(kernel_attention_forward, kernel_attention_backward)
