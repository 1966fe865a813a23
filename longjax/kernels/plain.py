"""A rectangle by plain matrix products: the specification of the other kernels."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from longjax.attention import NEVER
from longjax.bands import Band
from longjax.kernels import Starts

dot = partial(jnp.einsum, preferred_element_type=jnp.float32)


@dataclasses.dataclass(frozen=True)
class Plain:
    documents: ClassVar[bool] = True

    def refuses(self, q_BTNH, k_BSKH, band: Band):
        return None

    def forward(self, q_BTNH, k_BSKH, v_BSKH, band: Band, starts):
        x_BKGTS = scores(q_BTNH, k_BSKH, band, starts)
        lse_BKGT = jax.nn.logsumexp(x_BKGTS, axis=-1)
        weight_BKGTS = jnp.exp(x_BKGTS - lse_BKGT[..., None]).astype(v_BSKH.dtype)
        out = jnp.einsum("BKGTS,BSKH->BTKGH", weight_BKGTS, v_BSKH)  # not in float32: it is as large as the queries
        B, T, N, _ = q_BTNH.shape
        return out.reshape(q_BTNH.shape), lse_BKGT.reshape(B, N, T)

    def backward(self, q_BTNH, k_BSKH, v_BSKH, out_BTNH, lse_BNT, d_out_BTNH, band: Band, starts):
        (B, T, N, H), K = q_BTNH.shape, k_BSKH.shape[2]
        grouped = (B, T, K, N // K, H)
        q_BTKGH, d_BTKGH = q_BTNH.reshape(grouped), d_out_BTNH.reshape(grouped)
        delta_BTN = (d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32)).sum(-1)
        delta_BKGT = jnp.moveaxis(delta_BTN, 1, 2).reshape(B, K, N // K, T)
        p_BKGTS = jnp.exp(scores(q_BTNH, k_BSKH, band, starts) - lse_BNT.reshape(B, K, N // K, T, 1))
        dv_BSKH = dot("BKGTS,BTKGH->BSKH", p_BKGTS.astype(q_BTNH.dtype), d_BTKGH)
        ds_BKGTS = p_BKGTS * (dot("BTKGH,BSKH->BKGTS", d_BTKGH, v_BSKH) - delta_BKGT[..., None]) * H**-0.5
        ds_BKGTS = ds_BKGTS.astype(q_BTNH.dtype)
        dq_BTNH = jnp.einsum("BKGTS,BSKH->BTKGH", ds_BKGTS, k_BSKH).reshape(q_BTNH.shape)
        dk_BSKH = dot("BKGTS,BTKGH->BSKH", ds_BKGTS, q_BTKGH)
        return dq_BTNH, dk_BSKH.astype(k_BSKH.dtype), dv_BSKH.astype(v_BSKH.dtype)


def scores(q_BTNH: jax.Array, k_BSKH: jax.Array, band: Band, starts: Starts) -> jax.Array:
    """-> x_BKGTS in float32, NEVER where unseen."""
    (B, T, N, H), K = q_BTNH.shape, k_BSKH.shape[2]
    x_BKGTS = dot("BTKGH,BSKH->BKGTS", q_BTNH.reshape(B, T, K, N // K, H), k_BSKH) * H**-0.5
    if starts is None:
        return jnp.where(band.seen(), x_BKGTS, NEVER)
    same_BTS = starts[0][:, :, None] == starts[1][:, None]
    return jnp.where(band.seen() & same_BTS[:, None, None], x_BKGTS, NEVER)
