"""The gradients of a part, from the output and log-sum-exp of the whole softmax. Letters as in attention.py.

One kernel goes over tiles of queries, one over tiles of keys: weights are made twice, but nothing is summed in memory.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from longjax.attention.core import BranchInputs
from longjax.attention.kernels.triton_tiles import (
    LOG2E,
    QueryArrays,
    Tile,
    by_keys,
    by_queries,
    columns,
    dot,
    live_tile_pairs,
    loop_over_tiles,
    pad_inputs,
    pad_to,
    rows,
    scaled_score,
    softmax_weights,
    tile_ranges,
    visible_pairs,
)


def d_queries(
    part: BranchInputs, d_out_BTNH: jax.Array, log_BNT: jax.Array, delta_BNT: jax.Array, tile: Tile, interpret: bool
) -> jax.Array:
    """-> dq_BTNH; log: of the whole softmax, to the base of 2; delta: the products of out and d_out."""
    tile = tile.fitted(part)
    laid, shape = pad_inputs(part, tile), part.q_BTNH.shape
    specs = by_queries(laid, tile)
    dq = pl.pallas_call(
        partial(query_kernel, tile=tile, scale=shape[-1] ** -0.5, mask=part.mask, interpret=interpret),
        grid=specs.grid,
        in_specs=[specs.ranges, specs.laid, specs.vectors, specs.numbers, specs.numbers],
        out_specs=specs.vectors,
        out_shape=jax.ShapeDtypeStruct(laid.q.shape, laid.q.dtype),
        compiler_params=tile.params(),
        interpret=interpret,
        name="attention_d_queries",
    )(
        tile_ranges(*live_tile_pairs(laid, tile, part.mask)),
        laid,
        *padded_gradients(d_out_BTNH, log_BNT, delta_BNT, laid.q.shape),
    )
    return dq[:, : shape[1], :, : shape[3]]


def d_keys(
    part: BranchInputs, d_out_BTNH: jax.Array, log_BNT: jax.Array, delta_BNT: jax.Array, tile: Tile, interpret: bool
) -> tuple[jax.Array, jax.Array]:
    """-> dk_BSKH, dv_BSKH."""
    tile = tile.fitted(part)
    laid, shape = pad_inputs(part, tile), part.k_BSKH.shape
    specs = by_keys(laid, tile)
    gradients = pl.pallas_call(
        partial(key_kernel, tile=tile, scale=shape[-1] ** -0.5, mask=part.mask, interpret=interpret),
        grid=specs.grid,
        in_specs=[specs.ranges, specs.laid, specs.vectors, specs.numbers, specs.numbers],
        out_specs=(specs.laid.k, specs.laid.v),
        out_shape=(jax.ShapeDtypeStruct(laid.k.shape, laid.k.dtype),) * 2,
        compiler_params=tile.params(),
        interpret=interpret,
        name="attention_d_keys",
    )(
        tile_ranges(*(x.swapaxes(2, 3) for x in live_tile_pairs(laid, tile, part.mask))),
        laid,
        *padded_gradients(d_out_BTNH, log_BNT, delta_BNT, laid.q.shape),
    )
    dk, dv = (x[:, : shape[1], :, : shape[3]] for x in gradients)
    return dk, dv


def padded_gradients(d_out_BTNH: jax.Array, log_BNT: jax.Array, delta_BNT: jax.Array, shape: tuple[int, ...]):
    """All as long and wide as the laid queries."""
    _, T, _, H = shape
    return pad_to(d_out_BTNH, {1: T, 3: H}), pad_to(log_BNT, {2: T}), pad_to(delta_BNT, {2: T})


def query_kernel(ranges_ref, laid, d_out_ref, log_ref, delta_ref, dq_ref, *, tile, scale, mask, interpret):
    """One tile of queries of one head, over the tiles of keys that they see."""
    q_TH, d_TH, asks = laid.q[...], d_out_ref[...], columns(laid.queries)
    log_T1, delta_T1 = columns((log_ref, delta_ref))
    slope = None if laid.slopes is None else laid.slopes[0] / scale

    def add(c, dq_TH, masked):
        at = pl.ds(c * tile.block_s, tile.block_s)
        k_SH, gives = laid.k[at], rows(laid.keys, at)
        x_TS = scaled_score(dot(q_TH, k_SH.T), asks, gives, slope)
        p_TS = softmax_weights(x_TS, scale * LOG2E, log_T1, interpret)
        if masked:
            p_TS = jnp.where(visible_pairs(asks, gives, mask), p_TS, 0.0)
        ds_TS = p_TS * (dot(d_TH, laid.v[at].T) - delta_T1)
        return dq_TH + dot(ds_TS.astype(k_SH.dtype), k_SH)

    dq_TH = loop_over_tiles(ranges_ref, 0, add, jnp.zeros(q_TH.shape, jnp.float32))
    dq_ref[...] = (dq_TH * scale).astype(dq_ref.dtype)


def key_kernel(ranges_ref, laid, d_out_ref, log_ref, delta_ref, dk_ref, dv_ref, *, tile, scale, mask, interpret):
    """One tile of keys of one kv head, over its query heads and the tiles of queries that see it.

    Tiles lie on their sides, keys by queries: the products then take the weights as they come.
    """
    k_SH, v_SH, gives = laid.k[...], laid.v[...], columns(laid.keys)
    G, alike = laid.q.shape[1], laid.queries.lo.shape[0] == 1

    def add(g, q, carry, masked):
        dk_SH, dv_SH = carry
        at, m = pl.ds(q * tile.block_t, tile.block_t), 0 if alike else g
        asks = QueryArrays(*rows((laid.queries.lo, laid.queries.hi), (m, at)), *rows(laid.queries[2:], at))
        q_TH, d_TH = laid.q[at, g], d_out_ref[at, g]
        log_1T, delta_1T = rows((log_ref, delta_ref), (g, at))
        slope = None if laid.slopes is None else laid.slopes[g] / scale
        x_ST = scaled_score(dot(k_SH, q_TH.T), asks, gives, slope)
        p_ST = softmax_weights(x_ST, scale * LOG2E, log_1T, interpret)
        if masked:
            p_ST = jnp.where(visible_pairs(asks, gives, mask), p_ST, 0.0)
        dv_SH += dot(p_ST.astype(d_TH.dtype), d_TH)
        ds_ST = p_ST * (dot(v_SH, d_TH.T) - delta_1T)
        return dk_SH + dot(ds_ST.astype(q_TH.dtype), q_TH), dv_SH

    def add_head(g, carry):
        return loop_over_tiles(ranges_ref, 0 if alike else g, partial(add, g), carry)

    zero_SH = jnp.zeros(k_SH.shape, jnp.float32)
    dk_SH, dv_SH = jax.lax.fori_loop(0, G, add_head, (zero_SH, zero_SH))
    dk_ref[...] = (dk_SH * scale).astype(dk_ref.dtype)
    dv_ref[...] = dv_SH.astype(dv_ref.dtype)
