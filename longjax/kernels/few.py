"""A rectangle of few keys (sinks, first tokens): its weights are made first, and mixed while outputs are merged.

So neither its queries nor its output are copied, which would cost more than the products. Letters as in rope.py.
"""

import jax
import jax.numpy as jnp

from longjax.attention import NEVER
from longjax.bands import Band
from longjax.kernels import Starts
from longjax.kernels.plain import dot

FEW = 32  # keys


def is_few(band: Band) -> bool:
    return band.cols <= FEW and band.count == 1


def keys_of(x_BSKH: jax.Array, band: Band) -> jax.Array:
    """-> the rectangle's keys, and some that nobody sees, up to a multiple of 16: tensor cores take no ten keys."""
    x_BSKH = band.keys(x_BSKH)
    return jnp.pad(x_BSKH, ((0, 0), (0, -x_BSKH.shape[1] % 16), (0, 0), (0, 0)))


def scores(q_BTNH: jax.Array, k_BSKH: jax.Array, band: Band, starts: Starts) -> jax.Array:
    """-> x_BKGTS of all queries in float32, NEVER where unseen; k_BSKH of keys_of."""
    (B, T, N, H), (S, K) = q_BTNH.shape, k_BSKH.shape[1:3]
    x_BKGTS = dot("BTKGH,BSKH->BKGTS", q_BTNH.reshape(B, T, K, N // K, H), k_BSKH) * H**-0.5
    inside = jnp.pad(band.seen(), ((band.t, T - band.t - band.rows), (0, S - band.cols)))
    if starts is None:
        return jnp.where(inside, x_BKGTS, NEVER)
    of_keys_BS = jnp.pad(band.keys(starts[1]), ((0, 0), (0, S - band.cols)), constant_values=-1)
    same_BTS = starts[0][:, :, None] == of_keys_BS[:, None]
    return jnp.where(inside & same_BTS[:, None, None], x_BKGTS, NEVER)


def by_head(x_BKGT: jax.Array) -> jax.Array:
    """-> x_BNT."""
    return x_BKGT.reshape(x_BKGT.shape[0], -1, x_BKGT.shape[3])


def weights(x_BKGTS: jax.Array, lse_BNT: jax.Array) -> jax.Array:
    return jnp.exp(x_BKGTS - lse_BNT.reshape(*x_BKGTS.shape[:4], 1))


def mixed(x_BKGTS: jax.Array, lse_BNT: jax.Array, v_BSKH: jax.Array) -> jax.Array:
    """-> this rectangle's share of the output, in float32, as a sum that is fused into what uses it."""
    B, K, G, T, _ = x_BKGTS.shape
    weight_BTKGS = jnp.moveaxis(weights(x_BKGTS, lse_BNT), 3, 1)
    v_BKSH = jnp.swapaxes(v_BSKH, 1, 2).astype(jnp.float32)
    out_BTKGH = (weight_BTKGS[..., None] * v_BKSH[:, None, :, None]).sum(4)
    return out_BTKGH.reshape(B, T, K * G, -1)


def backward(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, out_BTNH: jax.Array, lse_BNT: jax.Array,
    d_out_BTNH: jax.Array, band: Band, starts: Starts,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """-> dq_BTNH, dk_BSKH, dv_BSKH, of all queries and all keys."""
    (B, T, N, H), (S, K) = q_BTNH.shape, k_BSKH.shape[1:3]
    k, v = keys_of(k_BSKH, band), keys_of(v_BSKH, band)
    q_BTKGH, d_BTKGH = (x.reshape(B, T, K, N // K, H) for x in (q_BTNH, d_out_BTNH))
    delta_BTN = (d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32)).sum(-1)
    delta_BKGT1 = jnp.moveaxis(delta_BTN, 1, 2).reshape(B, K, N // K, T, 1)
    p_BKGTS = weights(scores(q_BTNH, k, band, starts), lse_BNT)
    ds_BKGTS = (p_BKGTS * (dot("BTKGH,BSKH->BKGTS", d_BTKGH, v) - delta_BKGT1) * H**-0.5).astype(q_BTNH.dtype)
    dq_BTNH = jnp.einsum("BKGTS,BSKH->BTKGH", ds_BKGTS, k).reshape(q_BTNH.shape)
    dk = dot("BKGTS,BTKGH->BSKH", ds_BKGTS, q_BTKGH)
    dv = dot("BKGTS,BTKGH->BSKH", p_BKGTS.astype(q_BTNH.dtype), d_BTKGH)
    dk_BSKH, dv_BSKH = (band.back_to_keys(x[:, : band.cols].astype(k_BSKH.dtype), S) for x in (dk, dv))
    return dq_BTNH, dk_BSKH, dv_BSKH
