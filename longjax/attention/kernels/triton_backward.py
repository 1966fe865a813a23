"""The gradients of a branch, from the output and log-sum-exp of the whole softmax. Letters as in core.py.

One kernel loops over tiles of queries, one over tiles of keys: weights are computed twice, but no sums are in memory.
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
    biased_scores,
    dot,
    key_grid,
    live_tile_pairs,
    load_columns,
    load_rows,
    loop_over_tiles,
    pad_inputs,
    pad_to,
    query_grid,
    softmax_weights,
    tile_ranges,
    visible_pairs,
)


def query_gradients(
    branch: BranchInputs, d_out_BTNH: jax.Array, log_BNT: jax.Array, delta_BNT: jax.Array, tile: Tile, interpret: bool
) -> jax.Array:
    """Compute the gradient of a branch's queries.

    Args:
      branch: inputs of the branch.
      d_out_BTNH: gradient of the output.
      log_BNT: log-sum-exp of the whole softmax, to the base of 2.
      delta_BNT: dot product of output and d_out.
      tile: of the kernel.
      interpret: run on any machine, slowly.

    Returns:
      dq_BTNH.

    """
    tile = tile.fit(branch)
    padded, shape = pad_inputs(branch, tile), branch.q_BTNH.shape
    specs = query_grid(padded, tile)
    dq = pl.pallas_call(
        partial(query_gradient_kernel, tile=tile, scale=shape[-1] ** -0.5, mask=branch.mask, interpret=interpret),
        grid=specs.grid,
        in_specs=[specs.ranges, specs.padded, specs.vectors, specs.numbers, specs.numbers],
        out_specs=specs.vectors,
        out_shape=jax.ShapeDtypeStruct(padded.q.shape, padded.q.dtype),
        compiler_params=tile.params(),
        interpret=interpret,
        name="attention_d_queries",
    )(
        tile_ranges(*live_tile_pairs(padded, tile, branch.mask)),
        padded,
        *padded_gradients(d_out_BTNH, log_BNT, delta_BNT, padded.q.shape),
    )
    return dq[:, : shape[1], :, : shape[3]]


def key_gradients(
    branch: BranchInputs, d_out_BTNH: jax.Array, log_BNT: jax.Array, delta_BNT: jax.Array, tile: Tile, interpret: bool
) -> tuple[jax.Array, jax.Array]:
    """Compute the gradients dk_BSKH, dv_BSKH of a branch; arguments as of `query_gradients`."""
    tile = tile.fit(branch)
    padded, shape = pad_inputs(branch, tile), branch.k_BSKH.shape
    specs = key_grid(padded, tile)
    gradients = pl.pallas_call(
        partial(key_gradient_kernel, tile=tile, scale=shape[-1] ** -0.5, mask=branch.mask, interpret=interpret),
        grid=specs.grid,
        in_specs=[specs.ranges, specs.padded, specs.vectors, specs.numbers, specs.numbers],
        out_specs=(specs.padded.k, specs.padded.v),
        out_shape=(jax.ShapeDtypeStruct(padded.k.shape, padded.k.dtype),) * 2,
        compiler_params=tile.params(),
        interpret=interpret,
        name="attention_d_keys",
    )(
        tile_ranges(*(x.swapaxes(2, 3) for x in live_tile_pairs(padded, tile, branch.mask))),
        padded,
        *padded_gradients(d_out_BTNH, log_BNT, delta_BNT, padded.q.shape),
    )
    dk, dv = (x[:, : shape[1], :, : shape[3]] for x in gradients)
    return dk, dv


def padded_gradients(d_out_BTNH: jax.Array, log_BNT: jax.Array, delta_BNT: jax.Array, shape: tuple[int, ...]):
    """Pad the gradient and the statistics of queries to the shape of the padded queries."""
    _, T, _, H = shape
    return pad_to(d_out_BTNH, {1: T, 3: H}), pad_to(log_BNT, {2: T}), pad_to(delta_BNT, {2: T})


def query_gradient_kernel(ranges_ref, padded, d_out_ref, log_ref, delta_ref, dq_ref, *, tile, scale, mask, interpret):
    """Gradient of one tile of queries of one head: a loop over the tiles of keys that they see."""
    q_TH, d_TH, queries = padded.q[...], d_out_ref[...], load_columns(padded.queries)
    log_T1, delta_T1 = load_columns((log_ref, delta_ref))
    slope = None if padded.slopes is None else padded.slopes[0] / scale

    def add(c, dq_TH, masked):
        at = pl.ds(c * tile.block_s, tile.block_s)
        k_SH, keys = padded.k[at], load_rows(padded.keys, at)
        x_TS = biased_scores(dot(q_TH, k_SH.T), queries, keys, slope)
        p_TS = softmax_weights(x_TS, scale * LOG2E, log_T1, interpret)
        if masked:
            p_TS = jnp.where(visible_pairs(queries, keys, mask), p_TS, 0.0)
        ds_TS = p_TS * (dot(d_TH, padded.v[at].T) - delta_T1)
        return dq_TH + dot(ds_TS.astype(k_SH.dtype), k_SH)

    dq_TH = loop_over_tiles(ranges_ref, 0, add, jnp.zeros(q_TH.shape, jnp.float32))
    dq_ref[...] = (dq_TH * scale).astype(dq_ref.dtype)


def key_gradient_kernel(
    ranges_ref, padded, d_out_ref, log_ref, delta_ref, dk_ref, dv_ref, *, tile, scale, mask, interpret
):
    """Gradients of one tile of keys of one key head: a loop over its query heads and the tiles of queries that see it.

    Tiles are transposed, keys by queries, as the products need the weights.
    """
    k_SH, v_SH, keys = padded.k[...], padded.v[...], load_columns(padded.keys)
    G, alike = padded.q.shape[1], padded.queries.lo.shape[0] == 1

    def add(g, q, carry, masked):
        dk_SH, dv_SH = carry
        at, m = pl.ds(q * tile.block_t, tile.block_t), 0 if alike else g
        bounds = load_rows((padded.queries.lo, padded.queries.hi), (m, at))
        queries = QueryArrays(*bounds, *load_rows(padded.queries[2:], at))
        q_TH, d_TH = padded.q[at, g], d_out_ref[at, g]
        log_1T, delta_1T = load_rows((log_ref, delta_ref), (g, at))
        slope = None if padded.slopes is None else padded.slopes[g] / scale
        x_ST = biased_scores(dot(k_SH, q_TH.T), queries, keys, slope)
        p_ST = softmax_weights(x_ST, scale * LOG2E, log_1T, interpret)
        if masked:
            p_ST = jnp.where(visible_pairs(queries, keys, mask), p_ST, 0.0)
        dv_SH += dot(p_ST.astype(d_TH.dtype), d_TH)
        ds_ST = p_ST * (dot(v_SH, d_TH.T) - delta_1T)
        return dk_SH + dot(ds_ST.astype(q_TH.dtype), q_TH), dv_SH

    def add_head(g, carry):
        return loop_over_tiles(ranges_ref, 0 if alike else g, partial(add, g), carry)

    zero_SH = jnp.zeros(k_SH.shape, jnp.float32)
    dk_SH, dv_SH = jax.lax.fori_loop(0, G, add_head, (zero_SH, zero_SH))
    dk_ref[...] = (dk_SH * scale).astype(dk_ref.dtype)
    dv_ref[...] = dv_SH.astype(dv_ref.dtype)
