"""The softmax in tiles of queries by tiles of keys: memory linear in the sequence, forward and backward.

Same numbers as `attention.Dense`. A tile is skipped when no query of it sees a key of it, so the work is that
of the intervals, not of the square. Scores are recomputed in the backward pass (Dao et al. 2022,
arXiv:2205.14135), with one log-sum-exp for all parts. Letters as in attention.py; Q and C count tiles of
queries and of keys.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from longjax.attention.core import MASK_VALUE, BranchInputs, Dense, attention_scores, weighted_values

QUERY_FIELDS = ("q_BTNH", "lo_BTM", "hi_BTM", "t_index_BT", "t_position_BT")  # the query's side of a Part
KEY_FIELDS = ("k_BSKH", "v_BSKH", "s_index_BS", "s_position_BS")  # the keys' side
PADDING_INDEX = 2**30


@dataclasses.dataclass(frozen=True)
class Blockwise:
    """Online softmax over tiles of `block_t` queries and `block_s` keys."""

    block_t: int = 512
    block_s: int = 512

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array:
        if parts[0].q_BTNH.shape[1] <= self.block_t and all(p.k_BSKH.shape[1] <= self.block_s for p in parts):
            return Dense()(parts)  # one tile: nothing to save
        arrays = tuple((p.q_BTNH, p.k_BSKH, p.v_BSKH) for p in parts)
        rest = tuple(p.replace(q_BTNH=None, k_BSKH=None, v_BSKH=None) for p in parts)
        return attend((self.block_t, self.block_s), arrays, rest)


class TiledInputs(NamedTuple):
    """A part cut into tiles: `asks` [Q, B, t, ...], `gives` [C, B, s, ...], and which pairs of tiles matter."""

    queries: dict
    keys: dict
    live_QC: jax.Array
    whole: BranchInputs  # what is not cut


def to_blocks(x: jax.Array, block: int, fill: int = 0) -> jax.Array:
    """[B, T, ...] -> [Q, B, block, ...], the last tile filled up."""
    B, T = x.shape[:2]
    x = jnp.pad(x, [(0, 0), (0, -T % block)] + [(0, 0)] * (x.ndim - 2), constant_values=fill)
    return jnp.moveaxis(x.reshape(B, -1, block, *x.shape[2:]), 1, 0)


def from_blocks(x: jax.Array, length: int) -> jax.Array:
    """The inverse of `cut`."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]


def tiled(part: BranchInputs, blocks: tuple[int, int]) -> TiledInputs:
    block_t, block_s = (min(b, n) for b, n in zip(blocks, (part.q_BTNH.shape[1], part.k_BSKH.shape[1]), strict=True))
    asks = {name: to_blocks(getattr(part, name), block_t) for name in QUERY_FIELDS}
    gives = {name: to_blocks(getattr(part, name), block_s, -1 if "index" in name else 0) for name in KEY_FIELDS}
    lo, hi, index = asks["lo_BTM"], asks["hi_BTM"], gives["s_index_BS"]
    lowest_Q = jnp.where(lo < hi, lo, PADDING_INDEX).min((1, 2, 3))
    highest_Q = jnp.where(lo < hi, hi, -1).max((1, 2, 3))
    first_C, last_C = jnp.where(index >= 0, index, PADDING_INDEX).min((1, 2)), index.max((1, 2))
    live_QC = (last_C[None] >= lowest_Q[:, None]) & (first_C[None] < highest_Q[:, None])
    return TiledInputs(asks, gives, live_QC, part.replace(**dict.fromkeys(QUERY_FIELDS + KEY_FIELDS)))


def tiles_of(arrays: tuple, rest: tuple[BranchInputs, ...], blocks: tuple[int, int]) -> list[TiledInputs]:
    parts = [p.replace(q_BTNH=q, k_BSKH=k, v_BSKH=v) for p, (q, k, v) in zip(rest, arrays, strict=True)]
    return [tiled(p, blocks) for p in parts]


def query_side(tiles: list[TiledInputs]) -> list[tuple]:
    """What a loop over tiles of queries runs over."""
    return [(t.queries, t.live_QC) for t in tiles]


def blockwise_forward(
    blocks: tuple[int, int], arrays: tuple, rest: tuple[BranchInputs, ...]
) -> tuple[jax.Array, jax.Array]:
    """-> out_BTNH, lse_BTN (float32): the log of each row's summed weights."""
    # Tiles' masks depend on positions alone. Without this they are hoisted out of the scan over layers, all at once.
    arrays, rest = jax.lax.optimization_barrier((arrays, rest))
    tiles = tiles_of(arrays, rest, blocks)
    B, T, N, H = arrays[0][0].shape
    K = arrays[0][1].shape[2]

    def tile_of_queries(sides):
        t = sides[0][0]["q_BTNH"].shape[1]
        zero = jnp.zeros((B, K, N // K, t), jnp.float32)
        carry = (jnp.zeros((B, t, K, N // K, H), jnp.float32), zero, zero + MASK_VALUE)
        for tile, (asks, live_C) in zip(tiles, sides, strict=True):
            carry, _ = jax.lax.scan(partial(accumulate_tile, tile.whole, asks), carry, (tile.keys, live_C))
        out, total, top = carry
        out = out / jnp.maximum(jnp.moveaxis(total, 3, 1), 1e-30)[..., None]
        lse = jnp.where(total > 0, top + jnp.log(jnp.maximum(total, 1e-30)), -MASK_VALUE)  # of an empty row: weights 0
        return out.reshape(B, t, N, H), jnp.moveaxis(lse, 3, 1).reshape(B, t, N)

    out, lse = jax.lax.map(tile_of_queries, query_side(tiles))
    return from_blocks(out, T).astype(arrays[0][0].dtype), from_blocks(lse, T)


def accumulate_tile(whole: BranchInputs, asks: dict, carry: tuple, side: tuple) -> tuple[tuple, None]:
    """One step of the online softmax: a tile of keys joins what was summed so far."""
    gives, live = side

    def join(carry):
        out, total, top = carry
        part = whole.replace(**asks, **gives)
        x_BKGTS, seen = attention_scores(part)
        new_top = jnp.maximum(top, x_BKGTS.max(-1))
        weight_BKGTS = jnp.where(seen, jnp.exp(x_BKGTS - new_top[..., None]), 0.0)
        decay = jnp.exp(top - new_top)
        out = out * jnp.moveaxis(decay, 3, 1)[..., None] + weighted_values(weight_BKGTS, part)
        return out, total * decay + weight_BKGTS.sum(-1), new_top

    return jax.lax.cond(live, join, lambda carry: carry, carry), None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(blocks: tuple[int, int], arrays: tuple, rest: tuple[BranchInputs, ...]) -> jax.Array:
    return blockwise_forward(blocks, arrays, rest)[0]


def attend_forward(blocks, arrays, rest):
    out_BTNH, lse_BTN = blockwise_forward(blocks, arrays, rest)
    return out_BTNH, (arrays, rest, out_BTNH, lse_BTN)


def attend_backward(blocks, saved, d_out_BTNH):
    arrays, rest, out_BTNH, lse_BTN = saved
    tiles = tiles_of(arrays, rest, blocks)
    block_t = tiles[0].queries["q_BTNH"].shape[2]
    delta_BTN = (d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32)).sum(-1)
    rows = tuple(to_blocks(x, block_t) for x in (d_out_BTNH, lse_BTN, delta_BTN))

    def tile_of_queries(sums, side):
        rows, sides = side
        new, d_qs = [], []
        for tile, (asks, live_C), (dk, dv) in zip(tiles, sides, sums, strict=True):
            start = (jnp.zeros(asks["q_BTNH"].shape, jnp.float32), dk, dv)
            step = partial(accumulate_gradients_of_tile, tile.whole, asks, rows)
            (dq, dk, dv), _ = jax.lax.scan(step, start, (tile.keys, live_C, jnp.arange(live_C.shape[0])))
            new.append((dk, dv))
            d_qs.append(dq)
        return new, d_qs

    zeros = [tuple(jnp.zeros(t.keys[n].shape, jnp.float32) for n in ("k_BSKH", "v_BSKH")) for t in tiles]
    sums, d_qs = jax.lax.scan(tile_of_queries, zeros, (rows, query_side(tiles)))
    d_arrays = tuple(
        tuple(from_blocks(d, x.shape[1]).astype(x.dtype) for d, x in zip((dq, dk, dv), qkv, strict=True))
        for dq, (dk, dv), qkv in zip(d_qs, sums, arrays, strict=True)
    )
    return d_arrays, None


def accumulate_gradients_of_tile(
    whole: BranchInputs, asks: dict, rows: tuple, carry: tuple, side: tuple
) -> tuple[tuple, None]:
    """Gradients of one pair of tiles, added to those of its queries and of its keys."""
    dq, dk, dv = carry
    gives, live, c = side
    part = whole.replace(**asks, **gives)

    def none():
        return jnp.zeros_like(dq), *(jnp.zeros(x.shape, jnp.float32) for x in (part.k_BSKH, part.v_BSKH))

    more_q, more_k, more_v = jax.lax.cond(live, partial(tile_gradients, part, *rows), none)
    return (dq + more_q, dk.at[c].add(more_k), dv.at[c].add(more_v)), None


def tile_gradients(part: BranchInputs, d_out_BTNH: jax.Array, lse_BTN: jax.Array, delta_BTN: jax.Array) -> tuple:
    """-> dq_BTNH, dk_BSKH, dv_BSKH of one pair of tiles, float32."""
    B, T, N, H = part.q_BTNH.shape
    K = part.k_BSKH.shape[2]

    def by_group(x_BTN):
        return jnp.moveaxis(x_BTN.reshape(B, T, K, N // K), 1, 3)[..., None]

    x_BKGTS, seen = attention_scores(part)
    p_BKGTS = jnp.where(seen, jnp.exp(x_BKGTS - by_group(lse_BTN)), 0.0)
    q_BTKGH, d_BTKGH = (x.reshape(B, T, K, N // K, H) for x in (part.q_BTNH, d_out_BTNH.astype(part.q_BTNH.dtype)))
    dot = partial(jnp.einsum, preferred_element_type=jnp.float32)
    dv_BSKH = dot("BKGTS,BTKGH->BSKH", p_BKGTS.astype(d_BTKGH.dtype), d_BTKGH)
    dp_BKGTS = dot("BTKGH,BSKH->BKGTS", d_BTKGH, part.v_BSKH)
    ds_BKGTS = (p_BKGTS * (dp_BKGTS - by_group(delta_BTN)) * H**-0.5).astype(q_BTKGH.dtype)
    dq_BTNH = dot("BKGTS,BSKH->BTKGH", ds_BKGTS, part.k_BSKH).reshape(B, T, N, H)
    return dq_BTNH, dot("BKGTS,BTKGH->BSKH", ds_BKGTS, q_BTKGH), dv_BSKH


attend.defvjp(attend_forward, attend_backward)
