"""The attention kernels for TPUs that come with jax (splash attention, Pallas).

The forward and the backward kernel are called separately, as the backward pass takes the log-sum-exp of a union of
rectangles. They are private; no other file depends on them (as of jax 0.10.2 and 0.11.2). Letters as in rope.py.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as tiles

from longjax.attention.kernels.base import Starts
from longjax.attention.rectangles import Rectangle

LANES = 128  # tile sizes are multiples of it


@dataclasses.dataclass(frozen=True)
class Splash:
    """Attention within a rectangle by splash attention.

    Attributes:
      block: largest number of queries and of keys of a tile.
      compute: largest number of keys of one matrix product.
      interpret: run on any machine, slowly.

    """

    block: int = 1024
    compute: int = 512
    interpret: bool = False
    documents: ClassVar[bool] = True

    def unsupported_reason(self, q_BTNH, k_BSKH, rectangle: Rectangle):
        for name, size in (("queries", rectangle.rows), ("keys", rectangle.cols)):
            if size % LANES:
                return f"splash attention needs multiples of {LANES}, not {size} {name}"
        return None

    def forward(self, q_BTNH, k_BSKH, v_BSKH, rectangle: Rectangle, starts):
        kernel = splash_kernel(self, q_BTNH.shape[2], rectangle)
        settings = {name: kernel.kwargs[name] for name in FORWARD}
        settings |= {"residual_checkpoint_name": None, "save_residuals": True}

        def attend_row(q_NTH, k_KSH, v_KSH, segments):
            arrays = (q_NTH, k_KSH, v_KSH, segments, None)
            out_NTH, (lse_NT,) = splash._splash_attention_forward(kernel.fwd_mask_info, *arrays, **settings)
            return out_NTH, lse_NT

        k_BKSH, v_BKSH = heads_first(k_BSKH), heads_first(v_BSKH)
        out_BNTH, lse_BNT = jax.vmap(attend_row)(scaled_queries(q_BTNH), k_BKSH, v_BKSH, segment_ids(starts))
        return heads_first(out_BNTH), lse_BNT

    def backward(self, q_BTNH, k_BSKH, v_BSKH, out_BTNH, lse_BNT, d_out_BTNH, rectangle: Rectangle, starts):
        kernel = splash_kernel(self, q_BTNH.shape[2], rectangle)
        settings = [kernel.kwargs[name] for name in BACKWARD]
        run: Any = splash._splash_attention_bwd

        def row_gradients(q_NTH, k_KSH, v_KSH, segments, out_NTH, lse_NT, d_out_NTH):
            saved = (q_NTH, k_KSH, v_KSH, segments, None, out_NTH, lse_NT, kernel.dq_mask_info, kernel.dkv_mask_info)
            return run(False, *settings, saved, d_out_NTH)[3:6]

        q_BNTH, (k, v, out, d_out) = scaled_queries(q_BTNH), map(heads_first, (k_BSKH, v_BSKH, out_BTNH, d_out_BTNH))
        dq, dk, dv = map(heads_first, jax.vmap(row_gradients)(q_BNTH, k, v, segment_ids(starts), out, lse_BNT, d_out))
        return (dq * q_BTNH.shape[-1] ** -0.5).astype(q_BTNH.dtype), dk, dv


FORWARD = ("mask_value", "is_mqa", "block_sizes", "mask_function", "attn_logits_soft_cap", "interpret")
BACKWARD = (
    "mask_value", "is_mqa", "block_sizes", "residual_checkpoint_name", "mask_function", "attn_logits_soft_cap",
    "interpret",
)  # fmt: skip


def segment_ids(starts: Starts) -> splash.SegmentIds | None:
    """Segment ids of documents: the index of their first token."""
    return None if starts is None else splash.SegmentIds(*starts)


def heads_first(x: jax.Array) -> jax.Array:
    """Swap tokens and heads, [B, T, N, H] <-> [B, N, T, H]."""
    return jnp.swapaxes(x, 1, 2)


def scaled_queries(q_BTNH: jax.Array) -> jax.Array:
    """Return q_BNTH times H ** -0.5, which the kernel leaves to its callers."""
    return heads_first(q_BTNH * jnp.asarray(q_BTNH.shape[-1] ** -0.5, q_BTNH.dtype))


@functools.cache
def splash_kernel(config: Splash, heads: int, rectangle: Rectangle) -> Any:
    """Return the kernel for a rectangle. The tiles that it skips are computed on the host.

    The gradients of queries and of keys are two kernels. Splash has one for both, which writes a dq for every tile of
    keys, to be summed later. By the compiler's estimate for a v5e that takes longer than to compute the scores twice,
    unless tiles are so wide (4096 keys, 4 % of a step at 32K) that a v5p cannot hold them; and its memory grows with
    the square of the length.
    """
    q, kv = block_size(rectangle.rows, config.block), block_size(rectangle.cols, config.block)
    inner = block_size(kv, config.compute)
    blocks = splash.BlockSizes(
        block_q=q, block_kv=kv, block_kv_compute=inner, block_q_dkv=q, block_kv_dkv=kv, block_kv_dkv_compute=inner,
        block_q_dq=q, block_kv_dq=kv,
    )  # fmt: skip
    mask, shards = masks.MultiHeadMask([rectangle_mask(rectangle)] * heads), {"head_shards": 1, "q_seq_shards": 1}
    forward, function = tiles.process_mask(mask, (q, kv), **shards)  # numpy: needs no device
    backward, _ = tiles.process_mask_dkv(mask, (q, kv), **shards)
    return splash.SplashAttentionKernel(
        forward, forward, backward, block_sizes=blocks, is_mqa=False, save_residuals=False,
        mask_value=splash.DEFAULT_MASK_VALUE, attn_logits_soft_cap=None, residual_checkpoint_name=None,
        mask_function=function, interpret=config.interpret,
    )  # fmt: skip


def block_size(size: int, limit: int) -> int:
    """Return the largest multiple of LANES up to `limit` that divides `size`."""
    return max(n for n in range(LANES, min(size, limit) + 1, LANES) if size % n == 0)


def rectangle_mask(rectangle: Rectangle) -> masks.Mask:
    """Return the pairs that a rectangle sees, as splash attention's mask."""
    shape = (rectangle.rows, rectangle.cols)
    if not rectangle.causal:
        return masks.FullMask(shape)
    if rectangle.window is None:
        return CausalByCorners(shape)
    return WindowByCorners(shape, (rectangle.window - 1, 0), 0)


class TilesByCorners:
    """Computes most tiles of a mask from two corners; splash computes every pair of every tile, 10 s at 64K."""

    def reach(self) -> int | None:
        """Largest distance that a query sees; None: all."""
        return None

    def __getitem__(self, index):
        shape: tuple[int, int] = self.shape  # pyright: ignore[reportAttributeAccessIssue]
        rows, cols = (range(*tile.indices(size)) for tile, size in zip(index, shape, strict=True))
        nearest, farthest, reach = rows[0] - cols[-1], rows[-1] - cols[0], self.reach()
        if farthest < 0 or (reach is not None and nearest > reach):
            return np.zeros((1, 1), np.bool_)
        if nearest >= 0 and (reach is None or farthest <= reach):
            return np.ones((1, 1), np.bool_)
        return super().__getitem__(index)  # pyright: ignore[reportAttributeAccessIssue]


class CausalByCorners(TilesByCorners, masks.CausalMask):
    """The causal mask."""


class WindowByCorners(TilesByCorners, masks.LocalMask):
    """The mask of a sliding window."""

    def reach(self):
        return self.window_size[0]
