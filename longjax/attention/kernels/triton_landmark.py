"""Blocks of keys that each query chooses for itself, on NVIDIA GPUs, in Pallas: which they are, and attention to them.

A program has a tile of queries of one head. Neighbours choose much the same, so it visits each block once that one of
them attends to, with products of tiles as in flash attention, where the block lies in the cache of all layers. Keys
are rotated by their offset in the block; a query sees every block from a place of its own, and is given rotated to
each: its row of the tile is fetched for every block anew. Same numbers as landmark_blocks.py, for values alone.
Letters as in landmark_memory.py; Q tiles of queries, E of a tile's queries, X numbers of a tile of landmarks.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from longjax.attention.core import MASK_VALUE
from longjax.attention.kernels.triton_tiles import dot, pad_to, plgpu

MIN_TILE = 1e-30


class LandmarkQueries(NamedTuple):
    """Queries: arrays, what refers to them in a kernel, or how they are cut."""

    q: Any  # [B, T, P, N, H], rotated to each of their places, the furthest last
    index: Any  # [B, T]
    start: Any
    past: Any  # blocks before the chunk


class LandmarkKeys(NamedTuple):
    """Blocks of all layers, and the numbers of this layer's tokens."""

    k: Any  # [L, B, M, C, K, H]
    v: Any
    index: Any  # [B, M, C]
    layer: Any  # [1]


@dataclasses.dataclass(frozen=True)
class TritonLandmark:
    """Queries of a tile, landmarks of a tile, and what the compiler makes of a program."""

    block_t: int = 64
    block_x: int = 64
    warps: int = 4
    stages: int = 2
    interpret: bool = False

    def unsupported_reason(self, q_BTNH: jax.Array, block: int) -> str | None:
        """-> why the kernels cannot do this; None if they can."""
        H = q_BTNH.shape[-1]
        for name, size in ((f"heads of width {H}", H), (f"blocks of {block} tokens", block)):
            if size < 16 or pl.next_power_of_2(size) != size:
                return name
        return None

    def fitted(self, queries: int) -> int:
        return max(16, min(self.block_t, pl.next_power_of_2(queries)))  # 16: the least a product of tiles takes

    def params(self) -> Any:
        return plgpu.CompilerParams(num_warps=self.warps, num_stages=self.stages)

    def choose(self, asks: LandmarkQueries, k_BMKH: jax.Array, index_BM: jax.Array, top_k: int) -> jax.Array:
        """-> block_BTNJ: the best landmarks, equal ones from the earliest block; -1 where fewer may be opened."""
        B, T, P, N, H = asks.q.shape
        G, J, t = N // k_BMKH.shape[2], pl.next_power_of_2(top_k), self.fitted(T)
        k, index = pad_to(k_BMKH, {1: self.block_x}), pad_to(index_BM, {1: self.block_x}, -1)
        asks, M = pad_queries(asks, t), k.shape[1]
        block = pl.pallas_call(
            partial(choose_kernel, top_k=top_k, block_x=self.block_x),
            grid=(asks.index.shape[1] // t, N, B),
            in_specs=[
                split_heads(t, P, H),
                pl.BlockSpec((None, M, None, H), lambda i, n, b: (b, 0, n // G, 0)),
                pl.BlockSpec((None, M), lambda i, n, b: (b, 0)),
            ],
            out_specs=pl.BlockSpec((None, t, None, J), lambda i, n, b: (b, i, n, 0)),
            out_shape=jax.ShapeDtypeStruct((B, asks.index.shape[1], N, J), jnp.int32),
            compiler_params=self.params(),
            interpret=self.interpret,
            name="choose_blocks",
        )(asks, k, index)
        return block[:, :T, :, :top_k]

    def attend(
        self, asks: LandmarkQueries, block_BTNJ: jax.Array, place_BTNJ: jax.Array, gives: LandmarkKeys, here: int
    ) -> jax.Array:
        """-> out_BTNH. block: those opened, -1 for none; place: from which of its places the query sees each."""
        (B, T, P, N, H), (L, _, M, C, K) = asks.q.shape, gives.k.shape[:5]
        t, J = self.fitted(T), pl.next_power_of_2(block_BTNJ.shape[-1])
        asks, block, place = pad_queries(asks, t), *(pad_to(x, {1: t, 3: J}, -1) for x in (block_BTNJ, place_BTNJ))
        keys = pl.BlockSpec((L, None, M, C, None, H), lambda i, n, b: (0, b, 0, 0, n // (N // K), 0))
        opened = pl.BlockSpec((None, t, None, J), lambda i, n, b: (b, i, n, 0))
        out = pl.pallas_call(
            partial(attend_kernel, here=here),
            grid=(asks.index.shape[1] // t, N, B),
            in_specs=[
                pl.BlockSpec((None, None, None, M + 1), lambda i, n, b: (b, i, n, 0)),
                split_heads(t, P, H),
                opened,
                opened,
                LandmarkKeys(
                    keys,
                    keys,
                    pl.BlockSpec((None, M, C), lambda i, n, b: (b, 0, 0)),
                    pl.BlockSpec((1,), lambda i, n, b: (0,)),
                ),
            ],
            out_specs=pl.BlockSpec((None, t, None, H), lambda i, n, b: (b, i, n, 0)),
            out_shape=jax.ShapeDtypeStruct((B, asks.index.shape[1], N, H), asks.q.dtype),
            compiler_params=self.params(),
            interpret=self.interpret,
            name="attend_to_blocks",
        )(blocks_to_visit(asks, block, gives, t), asks, block, place, gives)
        return out[:, :T]


def pad_queries(asks: LandmarkQueries, t: int) -> LandmarkQueries:
    """-> whole tiles; what is no query sees nothing."""
    index, start, past = (pad_to(x, {1: t}, fill) for x, fill in zip(asks[1:], (-1, 0, 0), strict=True))
    return LandmarkQueries(pad_to(asks.q, {1: t}), index, start, past)


def split_heads(t: int, P: int, H: int) -> LandmarkQueries:
    number = pl.BlockSpec((None, t), lambda i, n, b: (b, i))
    return LandmarkQueries(pl.BlockSpec((None, t, P, None, H), lambda i, n, b: (b, i, 0, n, 0)), number, number, number)


def blocks_to_visit(asks: LandmarkQueries, block_BTNJ: jax.Array, gives: LandmarkKeys, t: int) -> jax.Array:
    """-> for each tile and head [B, Q, N, M + 1]: how many blocks some query attends to, then which."""
    (B, T, N, J), (M, C) = block_BTNJ.shape, gives.index.shape[1:]
    m_M = jnp.arange(M, dtype=jnp.int32)
    chosen_BQNM = (block_BTNJ.reshape(B, T // t, t, N, J)[..., None] == m_M).any((2, 4))
    past, index = (x.reshape(B, T // t, t, 1) for x in (asks.past, asks.index))
    chunk_BQM = ((past <= m_M) & (m_M <= index // C)).any(2)
    visited_BQNM = chosen_BQNM | chunk_BQM[:, :, None]
    which_BQNM = jnp.sort(jnp.where(visited_BQNM, m_M, M), axis=-1)
    count_BQN1 = visited_BQNM.sum(-1, keepdims=True, dtype=jnp.int32)
    return jnp.concatenate([count_BQN1, which_BQNM], axis=-1)


def choose_kernel(asks, k_ref, index_ref, block_ref, *, top_k, block_x):
    """One tile of queries of one head: the best of all, then the best of those after it, and so on."""
    start_T, past_T = asks.start[...], asks.past[...]
    (T, J), (P, H) = block_ref.shape, asks.q.shape[1:]
    column_1J, far_TH = jnp.arange(J)[None, :], asks.q[:, P - 1]
    tiles = (jnp.max(past_T) - top_k + block_x - 1) // block_x

    def near(j, near_TJ):
        """The blocks in place, each seen from a place of its own."""
        m_T = past_T - 1 - j
        at_T = jnp.maximum(m_T, 0)
        q_TH, k_TH = (x.astype(jnp.float32) for x in (asks.q[:, P - 1 - top_k + j], k_ref[at_T, :]))
        x_T = jnp.sum(q_TH * k_TH, axis=1) * H**-0.5
        may_T = (m_T >= 0) & (index_ref[at_T] >= start_T)
        return jnp.where(column_1J == j, jnp.where(may_T, x_T, MASK_VALUE)[:, None], near_TJ)

    near_TJ = jax.lax.fori_loop(0, top_k, near, jnp.full((T, J), MASK_VALUE, jnp.float32))
    ago_TJ = past_T[:, None] - 1 - column_1J

    def rank(r, carry):
        block_TJ, last_T, last_m_T = carry

        def best(x, m):
            """-> of those after the last one."""
            after = (x < last_T[:, None]) | ((x == last_T[:, None]) & (m > last_m_T[:, None]))
            x = jnp.where(after, x, MASK_VALUE)
            top_T = x.max(1)
            return top_T, jnp.where(x == top_T[:, None], m, 2**30).min(1)

        def far(tile, so_far):
            at = pl.ds(tile * block_x, block_x)
            m_1X = tile * block_x + jnp.arange(block_x)[None, :]
            may_TX = (m_1X < past_T[:, None] - top_k) & (index_ref[at][None, :] >= start_T[:, None])
            x_TX = jnp.where(may_TX, dot(far_TH, k_ref[at].T) * H**-0.5, MASK_VALUE)
            return better(so_far, best(x_TX, jnp.broadcast_to(m_1X, x_TX.shape)))

        top_T, m_T = jax.lax.fori_loop(0, tiles, far, best(near_TJ, ago_TJ))
        block_TJ = jnp.where((column_1J == r) & (top_T > MASK_VALUE)[:, None], m_T[:, None], block_TJ)
        return block_TJ, top_T, m_T

    none_TJ, above_T = jnp.full((T, J), -1, jnp.int32), jnp.full(T, -MASK_VALUE, jnp.float32)
    block_ref[...] = jax.lax.fori_loop(0, top_k, rank, (none_TJ, above_T, jnp.full(T, -1, jnp.int32)))[0]


def better(one, other):
    """Of two pairs of score and block, the higher, or the earlier of equals."""
    (x_T, m_T), (y_T, n_T) = one, other
    first = (x_T > y_T) | ((x_T == y_T) & (m_T < n_T))
    return jnp.where(first, x_T, y_T), jnp.where(first, m_T, n_T)


def attend_kernel(visits_ref, asks, block_ref, place_ref, gives, out_ref, *, here):
    """One tile of queries of one head: `grouped_softmax` online, a block at a time."""
    index_T, start_T, past_T = asks.index[...], asks.start[...], asks.past[...]
    block_TJ, place_TJ = block_ref[...], place_ref[...]
    (T, H), C, layer = out_ref.shape, gives.index.shape[1], gives.layer[0]
    row_T, is_token_1C = jnp.arange(T), (jnp.arange(C) < C - 1)[None, :]

    def join(n, carry):
        out_TH, total_T, top_T = carry
        m = visits_ref[1 + n]
        ahead_T = m - past_T
        in_place_T = (ahead_T >= 0) & (ahead_T < here)
        place_T = jnp.where(in_place_T, here - 1 - ahead_T, jnp.where(block_TJ == m, place_TJ, -1).max(1))
        attends_T, own_T = place_T >= 0, m == index_T // C
        q_TH = asks.q[row_T, jnp.maximum(place_T, 0), :]
        x_TC = dot(q_TH, gives.k[layer, m].T) * H**-0.5
        index_1C = gives.index[m][None, :]
        seen_TC = attends_T[:, None] & (index_1C >= start_T[:, None]) & (index_1C <= index_T[:, None])
        token_TC = seen_TC & is_token_1C
        inner_T = jnp.where(token_TC, x_TC, MASK_VALUE).max(1)
        weight_TC = jnp.where(token_TC, jnp.exp(x_TC - inner_T[:, None]), 0.0)
        sum_T = weight_TC.sum(1)
        landmark_T = jnp.where(seen_TC & ~is_token_1C, x_TC, MASK_VALUE).max(1)
        gate_T = jnp.where(own_T, inner_T + jnp.log(jnp.maximum(sum_T, MIN_TILE)), landmark_T)
        # A landmark with no token behind it opens nothing.
        opened_T = (sum_T > 0) & (gate_T > MASK_VALUE)
        new_T = jnp.maximum(top_T, jnp.where(opened_T, gate_T, MASK_VALUE))
        share_T = jnp.where(opened_T, jnp.exp(gate_T - new_T), 0.0)
        weight_TC *= (share_T / jnp.maximum(sum_T, MIN_TILE))[:, None]
        decay_T, v_CH = jnp.exp(top_T - new_T), gives.v[layer, m]
        out_TH = out_TH * decay_T[:, None] + dot(weight_TC.astype(v_CH.dtype), v_CH)
        return out_TH, total_T * decay_T + share_T, new_T

    zero_T = jnp.zeros(T, jnp.float32)
    start = (jnp.zeros((T, H), jnp.float32), zero_T, zero_T + MASK_VALUE)
    out_TH, total_T, _ = jax.lax.fori_loop(0, visits_ref[0], join, start)
    out_ref[...] = (out_TH / jnp.maximum(total_T, MIN_TILE)[:, None]).astype(out_ref.dtype)
