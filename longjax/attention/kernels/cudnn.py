"""NVIDIA's attention kernels (cuDNN), by jax's own primitives: about 600 TFLOP/s of bfloat16 on an H100 or H200.

jax.nn.dot_product_attention does not serve: it rounds the log-sum-exp to bfloat16, and silently drops the gradient
that flows through it. So the primitives below it are called; they are private, and no other file depends on them (as
of jax 0.10.2 and 0.11.2; 0.12 has one more parameter).
"""

import dataclasses
import inspect
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from longjax.attention.rectangles import Rectangle

MIN_CUDNN_VERSION = 90_100  # windows need it
MAX_QUERY_ELEMENTS = 2**31  # beyond, cuDNN's gradients have been seen wrong


@dataclasses.dataclass(frozen=True)
class Cudnn:
    """Attention within a rectangle by cuDNN, in bfloat16 or float16."""

    documents: ClassVar[bool] = False

    def unsupported_reason(self, q_BTNH, k_BSKH, rectangle: Rectangle):
        (B, T, N, H), S = q_BTNH.shape, k_BSKH.shape[1]
        if q_BTNH.dtype not in (jnp.bfloat16, jnp.float16):
            return f"cuDNN computes in bfloat16 or float16, not {q_BTNH.dtype}"
        if H % 8 or H > 256:
            return f"cuDNN needs a head width that is a multiple of 8, at most 256, not {H}"
        if T % 2 or S % 2:
            return f"cuDNN needs even lengths, not {T} queries and {S} keys"
        if B * T * N * H >= MAX_QUERY_ELEMENTS:
            return f"{B} x {T} queries in {N} heads exceed cuDNN's 2**31 elements: split them over more devices"
        return None

    def forward(self, q_BTNH, k_BSKH, v_BSKH, rectangle: Rectangle, starts):
        bind = cudnn._dot_product_attention_fwd_p_wrapper.bind
        arrays = (q_BTNH, k_BSKH, v_BSKH, *unused_operands(q_BTNH))
        out_BTNH, lse_BNT = bind(*arrays, is_training=True, **call_options(q_BTNH, rectangle))
        return out_BTNH, lse_BNT

    def backward(self, q_BTNH, k_BSKH, v_BSKH, out_BTNH, lse_BNT, d_out_BTNH, rectangle: Rectangle, starts):
        bind, unused = cudnn._dot_product_attention_bwd_p_wrapper.bind, unused_operands(q_BTNH)
        arrays = (q_BTNH, k_BSKH, v_BSKH, *unused, lse_BNT, out_BTNH, d_out_BTNH)
        return tuple(bind(*arrays, **call_options(q_BTNH, rectangle))[:3])


def unusable_reason(device: Any) -> str | None:
    """Return why cuDNN's attention does not run on a device; None if it does."""
    if "NVIDIA" not in device.device_kind or float(device.compute_capability) < 8:
        return f"cuDNN's attention needs an NVIDIA GPU from Ampere on, and this is {device.device_kind}"
    try:
        version = cudnn.check_cudnn_version()
    except RuntimeError as error:
        return f"cuDNN does not load: {error}"
    return None if version >= MIN_CUDNN_VERSION else f"cuDNN {version} is older than {MIN_CUDNN_VERSION}"


def unused_operands(q_BTNH: jax.Array) -> tuple[jax.Array, ...]:
    """Empty arrays in the place of bias, lengths, offsets and pages."""
    return (jnp.zeros(0, q_BTNH.dtype),) * 7


def call_options(q_BTNH: jax.Array, rectangle: Rectangle) -> dict:
    """Parameters of both primitives for this rectangle."""
    # a window without the causal mask would see the future
    mask_type = cudnn.MaskType.CAUSAL if rectangle.causal else cudnn.MaskType.NO_MASK
    options = {
        "scale": q_BTNH.shape[-1] ** -0.5,
        "seed": 42,
        "dropout_rate": 0.0,
        "variadic_args": (False, False),
        "mask_type": mask_type,
        "layout": cudnn.AttentionLayout.BTNH.value,
        "sliding_window_length": rectangle.window,
    }
    if "score_mod" in inspect.signature(cudnn._dot_product_attention_fwd_rule).parameters:  # jax 0.12
        options["score_mod"] = None
    return options
