"""The choice of blocks of keys by each query, and attention to them, on NVIDIA GPUs, in Pallas.

A program has a tile of queries of one head. Neighbors choose much the same blocks, so it visits each block once that
one of them attends to, with matrix products of tiles as in flash attention, reading the cache of all layers in place.
Keys are rotated by their offset in the block; a query sees each block from another position, and arrives rotated to
each of P positions: its row of the tile is loaded again for every block. Same numbers as landmark/blocks.py, forward
only. Letters as in landmark/memory.py; Q tiles of queries, X landmarks of a tile.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from longjax.attention.core import MASK_VALUE
from longjax.attention.kernels.triton_tiles import dot, pad_to, plgpu

SMALLEST_SUM = 1e-30  # divisor instead of 0


class LandmarkQueries(NamedTuple):
    """Queries: arrays, references to them in a kernel, or their block specs."""

    q: Any  # [B, T, P, N, H], rotated to each of their positions, the furthest last
    index: Any  # [B, T]
    start: Any
    past: Any  # number of blocks before the chunk


class LandmarkKeys(NamedTuple):
    """Blocks of all layers, and the token indices of this layer."""

    k: Any  # [L, B, M, C, K, H]
    v: Any
    index: Any  # [B, M, C]
    layer: Any  # [1]


@dataclasses.dataclass(frozen=True)
class TritonLandmark:
    """Landmark's kernels: queries of a tile, landmarks of a tile, and compiler parameters."""

    block_t: int = 64
    block_x: int = 64
    warps: int = 4
    stages: int = 2
    interpret: bool = False

    def unsupported_reason(self, q_BTNH: jax.Array, block: int) -> str | None:
        """Return why the kernels cannot do this; None if they can."""
        H = q_BTNH.shape[-1]
        for name, size in ((f"heads of width {H}", H), (f"blocks of {block} tokens", block)):
            if size < 16 or pl.next_power_of_2(size) != size:
                return name
        return None

    def tile_size(self, num_queries: int) -> int:
        """Number of queries of a tile."""
        return max(16, min(self.block_t, pl.next_power_of_2(num_queries)))  # 16: the smallest tile of a matrix product

    def params(self) -> Any:
        """Compiler parameters of the kernels."""
        return plgpu.CompilerParams(num_warps=self.warps, num_stages=self.stages)

    def choose(self, queries: LandmarkQueries, k_BMKH: jax.Array, index_BM: jax.Array, top_k: int) -> jax.Array:
        """Return block_BTNJ of the best landmarks, equal scores from the earliest block; -1 where fewer may be opened.

        `queries` have P = top_k + 1 positions; k_BMKH and index_BM are the landmarks' keys and token indices.
        """
        B, T, P, N, H = queries.q.shape
        G, J, t = N // k_BMKH.shape[2], pl.next_power_of_2(top_k), self.tile_size(T)
        k, index = pad_to(k_BMKH, {1: self.block_x}), pad_to(index_BM, {1: self.block_x}, -1)
        queries, M = pad_queries(queries, t), k.shape[1]
        block = pl.pallas_call(
            partial(choose_kernel, top_k=top_k, block_x=self.block_x),
            grid=(queries.index.shape[1] // t, N, B),
            in_specs=[
                query_specs(t, P, H),
                pl.BlockSpec((None, M, None, H), lambda i, n, b: (b, 0, n // G, 0)),
                pl.BlockSpec((None, M), lambda i, n, b: (b, 0)),
            ],
            out_specs=pl.BlockSpec((None, t, None, J), lambda i, n, b: (b, i, n, 0)),
            out_shape=jax.ShapeDtypeStruct((B, queries.index.shape[1], N, J), jnp.int32),
            compiler_params=self.params(),
            interpret=self.interpret,
            name="choose_blocks",
        )(queries, k, index)
        return block[:, :T, :, :top_k]

    def attend(
        self, queries: LandmarkQueries, block_BTNJ: jax.Array, p_BTNJ: jax.Array, keys: LandmarkKeys, chunk_blocks: int
    ) -> jax.Array:
        """Return out_BTNH of attention to the chunk's own blocks and to the opened ones, block_BTNJ (-1 for none).

        p_BTNJ: from which of its P positions the query sees each opened block. A chunk has `chunk_blocks` blocks.
        """
        (B, T, P, N, H), (L, _, M, C, K) = queries.q.shape, keys.k.shape[:5]
        t, J = self.tile_size(T), pl.next_power_of_2(block_BTNJ.shape[-1])
        queries, block, p = pad_queries(queries, t), *(pad_to(x, {1: t, 3: J}, -1) for x in (block_BTNJ, p_BTNJ))
        spec = pl.BlockSpec((L, None, M, C, None, H), lambda i, n, b: (0, b, 0, 0, n // (N // K), 0))
        opened = pl.BlockSpec((None, t, None, J), lambda i, n, b: (b, i, n, 0))
        out = pl.pallas_call(
            partial(attend_kernel, chunk_blocks=chunk_blocks),
            grid=(queries.index.shape[1] // t, N, B),
            in_specs=[
                pl.BlockSpec((None, None, None, M + 1), lambda i, n, b: (b, i, n, 0)),
                query_specs(t, P, H),
                opened,
                opened,
                LandmarkKeys(
                    spec,
                    spec,
                    pl.BlockSpec((None, M, C), lambda i, n, b: (b, 0, 0)),
                    pl.BlockSpec((1,), lambda i, n, b: (0,)),
                ),
            ],
            out_specs=pl.BlockSpec((None, t, None, H), lambda i, n, b: (b, i, n, 0)),
            out_shape=jax.ShapeDtypeStruct((B, queries.index.shape[1], N, H), queries.q.dtype),
            compiler_params=self.params(),
            interpret=self.interpret,
            name="attend_to_blocks",
        )(blocks_to_visit(queries, block, keys, t), queries, block, p, keys)
        return out[:, :T]


def pad_queries(queries: LandmarkQueries, t: int) -> LandmarkQueries:
    """Pad queries to whole tiles; padding sees nothing."""
    index, start, past = (pad_to(x, {1: t}, fill) for x, fill in zip(queries[1:], (-1, 0, 0), strict=True))
    return LandmarkQueries(pad_to(queries.q, {1: t}), index, start, past)


def query_specs(t: int, P: int, H: int) -> LandmarkQueries:
    """Block specs of a tile of `t` queries of one head."""
    number = pl.BlockSpec((None, t), lambda i, n, b: (b, i))
    return LandmarkQueries(pl.BlockSpec((None, t, P, None, H), lambda i, n, b: (b, i, 0, n, 0)), number, number, number)


def blocks_to_visit(queries: LandmarkQueries, block_BTNJ: jax.Array, keys: LandmarkKeys, t: int) -> jax.Array:
    """Return for each tile and head [B, Q, N, M + 1]: how many blocks its queries attend to, then which."""
    (B, T, N, J), (M, C) = block_BTNJ.shape, keys.index.shape[1:]
    m_M = jnp.arange(M, dtype=jnp.int32)
    chosen_BQNM = (block_BTNJ.reshape(B, T // t, t, N, J)[..., None] == m_M).any((2, 4))
    past, index = (x.reshape(B, T // t, t, 1) for x in (queries.past, queries.index))
    chunk_BQM = ((past <= m_M) & (m_M <= index // C)).any(2)
    visited_BQNM = chosen_BQNM | chunk_BQM[:, :, None]
    which_BQNM = jnp.sort(jnp.where(visited_BQNM, m_M, M), axis=-1)
    count_BQN1 = visited_BQNM.sum(-1, keepdims=True, dtype=jnp.int32)
    return jnp.concatenate([count_BQN1, which_BQNM], axis=-1)


def choose_kernel(queries, k_ref, index_ref, block_ref, *, top_k, block_x):
    """Blocks of one tile of queries of one head: the best of all, then the best of those after it, and so on."""
    start_T, past_T = queries.start[...], queries.past[...]
    (T, J), (P, H) = block_ref.shape, queries.q.shape[1:]
    column_1J, far_TH = jnp.arange(J)[None, :], queries.q[:, P - 1]
    tiles = (jnp.max(past_T) - top_k + block_x - 1) // block_x

    def near(j, near_TJ):
        """Score one of the last top_k blocks, each seen from another position."""
        m_T = past_T - 1 - j
        at_T = jnp.maximum(m_T, 0)
        q_TH, k_TH = (x.astype(jnp.float32) for x in (queries.q[:, P - 1 - top_k + j], k_ref[at_T, :]))
        x_T = jnp.sum(q_TH * k_TH, axis=1) * H**-0.5
        allowed_T = (m_T >= 0) & (index_ref[at_T] >= start_T)
        return jnp.where(column_1J == j, jnp.where(allowed_T, x_T, MASK_VALUE)[:, None], near_TJ)

    near_TJ = jax.lax.fori_loop(0, top_k, near, jnp.full((T, J), MASK_VALUE, jnp.float32))
    near_m_TJ = past_T[:, None] - 1 - column_1J

    def rank(r, carry):
        block_TJ, last_T, last_m_T = carry

        def best_after_last(x, m):
            """Return score and block of the best one after the one chosen last."""
            after = (x < last_T[:, None]) | ((x == last_T[:, None]) & (m > last_m_T[:, None]))
            x = jnp.where(after, x, MASK_VALUE)
            top_T = x.max(1)
            return top_T, jnp.where(x == top_T[:, None], m, 2**30).min(1)

        def far(tile, best):
            at = pl.ds(tile * block_x, block_x)
            m_1X = tile * block_x + jnp.arange(block_x)[None, :]
            allowed_TX = (m_1X < past_T[:, None] - top_k) & (index_ref[at][None, :] >= start_T[:, None])
            x_TX = jnp.where(allowed_TX, dot(far_TH, k_ref[at].T) * H**-0.5, MASK_VALUE)
            return better_of(best, best_after_last(x_TX, jnp.broadcast_to(m_1X, x_TX.shape)))

        top_T, m_T = jax.lax.fori_loop(0, tiles, far, best_after_last(near_TJ, near_m_TJ))
        block_TJ = jnp.where((column_1J == r) & (top_T > MASK_VALUE)[:, None], m_T[:, None], block_TJ)
        return block_TJ, top_T, m_T

    none_TJ, above_T = jnp.full((T, J), -1, jnp.int32), jnp.full(T, -MASK_VALUE, jnp.float32)
    block_ref[...] = jax.lax.fori_loop(0, top_k, rank, (none_TJ, above_T, jnp.full(T, -1, jnp.int32)))[0]


def better_of(a, b):
    """Of two pairs of score and block, return the higher one, or the earlier of equals."""
    (x_T, m_T), (y_T, n_T) = a, b
    first = (x_T > y_T) | ((x_T == y_T) & (m_T < n_T))
    return jnp.where(first, x_T, y_T), jnp.where(first, m_T, n_T)


def attend_kernel(visits_ref, queries, block_ref, p_ref, keys, out_ref, *, chunk_blocks):
    """Output of one tile of queries of one head: `grouped_softmax` online, one block at a time."""
    index_T, start_T, past_T = queries.index[...], queries.start[...], queries.past[...]
    block_TJ, p_TJ = block_ref[...], p_ref[...]
    (T, H), C, layer = out_ref.shape, keys.index.shape[1], keys.layer[0]
    row_T, is_token_1C = jnp.arange(T), (jnp.arange(C) < C - 1)[None, :]

    def add(n, carry):
        out_TH, total_T, top_T = carry
        m = visits_ref[1 + n]
        ahead_T = m - past_T
        in_chunk_T = (ahead_T >= 0) & (ahead_T < chunk_blocks)
        p_T = jnp.where(in_chunk_T, chunk_blocks - 1 - ahead_T, jnp.where(block_TJ == m, p_TJ, -1).max(1))
        attends_T, own_T = p_T >= 0, m == index_T // C
        q_TH = queries.q[row_T, jnp.maximum(p_T, 0), :]
        x_TC = dot(q_TH, keys.k[layer, m].T) * H**-0.5
        index_1C = keys.index[m][None, :]
        visible_TC = attends_T[:, None] & (index_1C >= start_T[:, None]) & (index_1C <= index_T[:, None])
        token_TC = visible_TC & is_token_1C
        inner_T = jnp.where(token_TC, x_TC, MASK_VALUE).max(1)
        weight_TC = jnp.where(token_TC, jnp.exp(x_TC - inner_T[:, None]), 0.0)
        sum_T = weight_TC.sum(1)
        landmark_T = jnp.where(visible_TC & ~is_token_1C, x_TC, MASK_VALUE).max(1)
        gate_T = jnp.where(own_T, inner_T + jnp.log(jnp.maximum(sum_T, SMALLEST_SUM)), landmark_T)
        # A landmark without visible tokens in its block opens nothing.
        opened_T = (sum_T > 0) & (gate_T > MASK_VALUE)
        new_T = jnp.maximum(top_T, jnp.where(opened_T, gate_T, MASK_VALUE))
        share_T = jnp.where(opened_T, jnp.exp(gate_T - new_T), 0.0)
        weight_TC *= (share_T / jnp.maximum(sum_T, SMALLEST_SUM))[:, None]
        decay_T, v_CH = jnp.exp(top_T - new_T), keys.v[layer, m]
        out_TH = out_TH * decay_T[:, None] + dot(weight_TC.astype(v_CH.dtype), v_CH)
        return out_TH, total_T * decay_T + share_T, new_T

    zero_T = jnp.zeros(T, jnp.float32)
    start = (jnp.zeros((T, H), jnp.float32), zero_T, zero_T + MASK_VALUE)
    out_TH, total_T, _ = jax.lax.fori_loop(0, visits_ref[0], add, start)
    out_ref[...] = (out_TH / jnp.maximum(total_T, SMALLEST_SUM)[:, None]).astype(out_ref.dtype)
