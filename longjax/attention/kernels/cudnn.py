"""NVIDIA's attention kernels (cuDNN), by jax's own primitives: about 600 TFLOP/s of bfloat16 on an H100 or H200.

jax.nn.dot_product_attention does not serve: it rounds the log-sum-exp to bfloat16, and drops, without a word, the
gradient that flows through it. So the primitives below it are called; they are private, and all that this project
knows of them is in this file (seen in jax 0.10.2 and 0.11.2; 0.12 has one more parameter).
"""

import dataclasses
import inspect
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from longjax.attention.rectangles import Rectangle

MIN_COMPUTE_CAPABILITY = 90_100  # of cuDNN's versions; windows need it
MAX_HEAD_DIM = 2**31  # elements of the queries: beyond, cuDNN's gradients have been seen wrong


@dataclasses.dataclass(frozen=True)
class Cudnn:
    documents: ClassVar[bool] = False

    def unsupported_reason(self, q_BTNH, k_BSKH, rectangle: Rectangle):
        (B, T, N, H), S = q_BTNH.shape, k_BSKH.shape[1]
        if q_BTNH.dtype not in (jnp.bfloat16, jnp.float16):
            return f"cuDNN computes in bfloat16 or float16, not {q_BTNH.dtype}"
        if H % 8 or H > 256:
            return f"cuDNN wants heads of a multiple of 8 up to 256, not of width {H}"
        if T % 2 or S % 2:
            return f"cuDNN wants even lengths, not {T} queries and {S} keys"
        if B * T * N * H >= MAX_HEAD_DIM:
            return f"{B} x {T} queries in {N} heads are more than cuDNN counts right: split them over more devices"
        return None

    def forward(self, q_BTNH, k_BSKH, v_BSKH, rectangle: Rectangle, starts):
        bind = cudnn._dot_product_attention_fwd_p_wrapper.bind
        out_BTNH, lse_BNT = bind(
            q_BTNH, k_BSKH, v_BSKH, *placeholder(q_BTNH), is_training=True, **call_options(q_BTNH, rectangle)
        )
        return out_BTNH, lse_BNT

    def backward(self, q_BTNH, k_BSKH, v_BSKH, out_BTNH, lse_BNT, d_out_BTNH, rectangle: Rectangle, starts):
        bind, none = cudnn._dot_product_attention_bwd_p_wrapper.bind, placeholder(q_BTNH)
        given = (q_BTNH, k_BSKH, v_BSKH, *none, lse_BNT, out_BTNH, d_out_BTNH)
        return tuple(bind(*given, **call_options(q_BTNH, rectangle))[:3])


def unusable_reason(device: Any) -> str | None:
    """-> why cuDNN's attention does not run there; None if it does."""
    if "NVIDIA" not in device.device_kind or float(device.compute_capability) < 8:
        return f"cuDNN's attention needs an NVIDIA GPU from Ampere on, and this is {device.device_kind}"
    try:
        version = cudnn.check_cudnn_version()
    except RuntimeError as error:
        return f"cuDNN does not load: {error}"
    return None if version >= MIN_COMPUTE_CAPABILITY else f"cuDNN {version} is older than {MIN_COMPUTE_CAPABILITY}"


def placeholder(q_BTNH: jax.Array) -> tuple[jax.Array, ...]:
    """No bias, lengths, offsets or pages."""
    return (jnp.zeros(0, q_BTNH.dtype),) * 7


def call_options(q_BTNH: jax.Array, rectangle: Rectangle) -> dict:
    causal = (
        cudnn.MaskType.CAUSAL if rectangle.causal else cudnn.MaskType.NO_MASK
    )  # a window without it sees the future
    newer = "score_mod" in inspect.signature(cudnn._dot_product_attention_fwd_rule).parameters
    return {
        "scale": q_BTNH.shape[-1] ** -0.5, "seed": 42, "dropout_rate": 0.0, "variadic_args": (False, False),
        "mask_type": causal, "layout": cudnn.AttentionLayout.BTNH.value, "sliding_window_length": rectangle.window,
    } | ({"score_mod": None} if newer else {})  # fmt: skip
