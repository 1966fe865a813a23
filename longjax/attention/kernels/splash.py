"""The attention kernels for TPUs that come with jax (splash attention, Pallas).

Their two halves are called one by one, as the log-sum-exp of a union is not theirs. They are private; all that this
project knows of them is in this file (seen in jax 0.10.2 and 0.11.2). Letters as in rope.py.
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

LANES = 128  # tiles of keys come in multiples of it


@dataclasses.dataclass(frozen=True)
class Splash:
    """Tiles of `block` queries by `block` keys; `interpret` runs it on any machine, slowly."""

    block: int = 1024
    compute: int = 512
    interpret: bool = False
    documents: ClassVar[bool] = True

    def unsupported_reason(self, q_BTNH, k_BSKH, rectangle: Rectangle):
        for what, size in (("queries", rectangle.rows), ("keys", rectangle.cols)):
            if size % LANES:
                return f"splash attention wants multiples of {LANES}, not {size} {what}"
        return None

    def forward(self, q_BTNH, k_BSKH, v_BSKH, rectangle: Rectangle, starts):
        kernel = splash_kernel(self, q_BTNH.shape[2], rectangle)
        given = kernel.kwargs

        def one(q_NTH, k_KSH, v_KSH, documents):
            out_NTH, (lse_NT,) = splash._splash_attention_forward(
                kernel.fwd_mask_info, q_NTH, k_KSH, v_KSH, documents, None,
                residual_checkpoint_name=None, save_residuals=True, **{name: given[name] for name in FORWARD},
            )  # fmt: skip
            return out_NTH, lse_NT

        out_BNTH, lse_BNT = jax.vmap(one)(
            padded_queries(q_BTNH), heads_first(k_BSKH), heads_first(v_BSKH), segment_ids(starts)
        )
        return heads_first(out_BNTH), lse_BNT

    def backward(self, q_BTNH, k_BSKH, v_BSKH, out_BTNH, lse_BNT, d_out_BTNH, rectangle: Rectangle, starts):
        kernel = splash_kernel(self, q_BTNH.shape[2], rectangle)
        settings = [kernel.kwargs[name] for name in BACKWARD]
        run: Any = splash._splash_attention_bwd

        def one(q_NTH, k_KSH, v_KSH, documents, out_NTH, lse_NT, d_out_NTH):
            saved = (q_NTH, k_KSH, v_KSH, documents, None, out_NTH, lse_NT, kernel.dq_mask_info, kernel.dkv_mask_info)
            return run(False, *settings, saved, d_out_NTH)[3:6]

        q_BNTH, (k, v, out, d_out) = padded_queries(q_BTNH), map(heads_first, (k_BSKH, v_BSKH, out_BTNH, d_out_BTNH))
        dq, dk, dv = map(heads_first, jax.vmap(one)(q_BNTH, k, v, segment_ids(starts), out, lse_BNT, d_out))
        return (dq * q_BTNH.shape[-1] ** -0.5).astype(q_BTNH.dtype), dk, dv


FORWARD = ("mask_value", "is_mqa", "block_sizes", "mask_function", "attn_logits_soft_cap", "interpret")
BACKWARD = (
    "mask_value", "is_mqa", "block_sizes", "residual_checkpoint_name", "mask_function", "attn_logits_soft_cap",
    "interpret",
)  # fmt: skip


def segment_ids(starts: Starts) -> splash.SegmentIds | None:
    """A document goes by the index of its first token."""
    return None if starts is None else splash.SegmentIds(*starts)


def heads_first(x: jax.Array) -> jax.Array:
    """[B, T, N, H] <-> [B, N, T, H]."""
    return jnp.swapaxes(x, 1, 2)


def padded_queries(q_BTNH: jax.Array) -> jax.Array:
    """-> q_BNTH times H ** -0.5, which the kernel leaves to its callers."""
    return heads_first(q_BTNH * jnp.asarray(q_BTNH.shape[-1] ** -0.5, q_BTNH.dtype))


@functools.cache
def splash_kernel(how: Splash, heads: int, rectangle: Rectangle) -> Any:
    """-> the kernel for this rectangle. Which tiles it skips is found on the host.

    The gradients of queries and of keys are two kernels. Splash has one for both, which writes a dq for every tile of
    keys, to be added up later. By the compiler's estimate for a v5e that takes longer than to compute the scores
    twice, unless tiles are so wide (4096 keys, 4 % of a step at 32K) that a v5p cannot hold them; and its memory grows
    with the square of the length.
    """
    q, kv = block_size(rectangle.rows, how.block), block_size(rectangle.cols, how.block)
    inner = block_size(kv, how.compute)
    blocks = splash.BlockSizes(
        block_q=q, block_kv=kv, block_kv_compute=inner, block_q_dkv=q, block_kv_dkv=kv, block_kv_dkv_compute=inner,
        block_q_dq=q, block_kv_dq=kv,
    )  # fmt: skip
    mask, parts = masks.MultiHeadMask([rectangle_mask(rectangle)] * heads), {"head_shards": 1, "q_seq_shards": 1}
    forward, function = tiles.process_mask(mask, (q, kv), **parts)  # numpy: also where no device is there to hold it
    backward, _ = tiles.process_mask_dkv(mask, (q, kv), **parts)
    return splash.SplashAttentionKernel(
        forward, forward, backward, block_sizes=blocks, is_mqa=False, save_residuals=False,
        mask_value=splash.DEFAULT_MASK_VALUE, attn_logits_soft_cap=None, residual_checkpoint_name=None,
        mask_function=function, interpret=how.interpret,
    )  # fmt: skip


def block_size(size: int, most: int) -> int:
    """-> the largest that divides the size."""
    return max(n for n in range(LANES, min(size, most) + 1, LANES) if size % n == 0)


def rectangle_mask(rectangle: Rectangle) -> masks.Mask:
    shape = (rectangle.rows, rectangle.cols)
    if not rectangle.causal:
        return masks.FullMask(shape)
    return TilesAtOnce(shape) if rectangle.window is None else WindowTilesAtOnce(shape, (rectangle.window - 1, 0), 0)


class AnswersByCorners:
    """Splash asks a mask for all its tiles, one number a pair: 10 s at 64K. Most tiles are known from two corners."""

    def reach(self) -> int | None:
        """-> how far back a query sees; None: to the beginning."""
        return None

    def __getitem__(self, index):
        shape: tuple[int, int] = self.shape  # pyright: ignore[reportAttributeAccessIssue]
        rows, cols = (range(*piece.indices(size)) for piece, size in zip(index, shape, strict=True))
        nearest, farthest, reach = rows[0] - cols[-1], rows[-1] - cols[0], self.reach()
        if farthest < 0 or (reach is not None and nearest > reach):
            return np.zeros((1, 1), np.bool_)
        if nearest >= 0 and (reach is None or farthest <= reach):
            return np.ones((1, 1), np.bool_)
        return super().__getitem__(index)  # pyright: ignore[reportAttributeAccessIssue]


class TilesAtOnce(AnswersByCorners, masks.CausalMask):
    pass


class WindowTilesAtOnce(AnswersByCorners, masks.LocalMask):
    def reach(self):
        return self.window_size[0]
