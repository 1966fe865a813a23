"""A rectangle by plain matrix products: the specification of the other kernels, and fast where keys are few."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from longjax.attention.core import MASK_VALUE
from longjax.attention.kernels.base import Starts
from longjax.attention.rectangles import Rectangle

einsum_float32 = partial(jnp.einsum, preferred_element_type=jnp.float32)


@dataclasses.dataclass(frozen=True)
class Reference:
    """Attention within a rectangle by plain matrix products."""

    documents: ClassVar[bool] = True

    def unsupported_reason(self, q_BTNH, k_BSKH, rectangle: Rectangle):
        return None

    def forward(self, q_BTNH, k_BSKH, v_BSKH, rectangle: Rectangle, starts):
        k_BSKH, v_BSKH = pad_keys(k_BSKH), pad_keys(v_BSKH)
        x_BKGTS = reference_scores(q_BTNH, k_BSKH, rectangle, starts)
        lse_BKGT = jax.nn.logsumexp(x_BKGTS, axis=-1)
        weight_BKGTS = jnp.exp(x_BKGTS - lse_BKGT[..., None]).astype(v_BSKH.dtype)
        out = jnp.einsum("BKGTS,BSKH->BTKGH", weight_BKGTS, v_BSKH)  # not in float32: it is as large as the queries
        B, T, N, _ = q_BTNH.shape
        return out.reshape(q_BTNH.shape), lse_BKGT.reshape(B, N, T)

    def backward(self, q_BTNH, k_BSKH, v_BSKH, out_BTNH, lse_BNT, d_out_BTNH, rectangle: Rectangle, starts):
        (B, T, N, H), (S, K) = q_BTNH.shape, k_BSKH.shape[1:3]
        k_BSKH, v_BSKH = pad_keys(k_BSKH), pad_keys(v_BSKH)
        grouped = (B, T, K, N // K, H)
        q_BTKGH, d_BTKGH = q_BTNH.reshape(grouped), d_out_BTNH.reshape(grouped)
        delta_BTN = (d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32)).sum(-1)
        delta_BKGT = jnp.moveaxis(delta_BTN, 1, 2).reshape(B, K, N // K, T)
        p_BKGTS = jnp.exp(reference_scores(q_BTNH, k_BSKH, rectangle, starts) - lse_BNT.reshape(B, K, N // K, T, 1))
        dv_BSKH = einsum_float32("BKGTS,BTKGH->BSKH", p_BKGTS.astype(q_BTNH.dtype), d_BTKGH)
        ds_BKGTS = p_BKGTS * (einsum_float32("BTKGH,BSKH->BKGTS", d_BTKGH, v_BSKH) - delta_BKGT[..., None]) * H**-0.5
        ds_BKGTS = ds_BKGTS.astype(q_BTNH.dtype)
        dq_BTNH = jnp.einsum("BKGTS,BSKH->BTKGH", ds_BKGTS, k_BSKH).reshape(q_BTNH.shape)
        dk_BSKH = einsum_float32("BKGTS,BTKGH->BSKH", ds_BKGTS, q_BTKGH)
        return dq_BTNH, dk_BSKH[:, :S].astype(k_BSKH.dtype), dv_BSKH[:, :S].astype(v_BSKH.dtype)


def pad_keys(x_BSKH: jax.Array) -> jax.Array:
    """Add unseen keys up to a multiple of 16, the granularity of tensor cores."""
    return jnp.pad(x_BSKH, ((0, 0), (0, -x_BSKH.shape[1] % 16), (0, 0), (0, 0)))


def reference_scores(q_BTNH: jax.Array, k_BSKH: jax.Array, rectangle: Rectangle, starts: Starts) -> jax.Array:
    """Return score_BKGTS in float32, MASK_VALUE where unseen."""
    (B, T, N, H), K = q_BTNH.shape, k_BSKH.shape[2]
    x_BKGTS = einsum_float32("BTKGH,BSKH->BKGTS", q_BTNH.reshape(B, T, K, N // K, H), k_BSKH) * H**-0.5
    padding = k_BSKH.shape[1] - rectangle.cols
    visible = jnp.pad(rectangle.mask(), ((0, 0), (0, padding)))
    if starts is None:
        return jnp.where(visible, x_BKGTS, MASK_VALUE)
    same_BTS = starts[0][:, :, None] == jnp.pad(starts[1], ((0, 0), (0, padding)), constant_values=-1)[:, None]
    return jnp.where(visible & same_BTS[:, None, None], x_BKGTS, MASK_VALUE)
