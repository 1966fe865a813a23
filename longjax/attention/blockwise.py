"""The softmax in tiles of queries by tiles of keys: memory linear in the sequence, forward and backward.

Same numbers as `core.Dense`. A tile is skipped when no query of it sees a key of it, so the work is that of the
intervals, not of the square. Scores are recomputed in the backward pass (Dao et al. 2022, arXiv:2205.14135), with one
log-sum-exp for all branches. Letters as in core.py; Q and C count tiles of queries and of keys.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from longjax.attention.core import (
    MASK_VALUE,
    MAX_INDEX,
    BranchInputs,
    Dense,
    Qkv,
    attention_scores,
    join_qkv,
    split_qkv,
    weighted_values,
)

QUERY_FIELDS = ("q_BTNH", "lo_BTM", "hi_BTM", "t_index_BT", "t_position_BT")  # of BranchInputs, split into query tiles
KEY_FIELDS = ("k_BSKH", "v_BSKH", "s_index_BS", "s_position_BS")  # split into key tiles


@dataclasses.dataclass(frozen=True)
class Blockwise:
    """Online softmax over tiles of `block_t` queries and `block_s` keys, by XLA."""

    block_t: int = 512
    block_s: int = 512

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        one_tile = all(branch.k_BSKH.shape[1] <= self.block_s for branch in branches)
        if one_tile and branches[0].q_BTNH.shape[1] <= self.block_t:
            return Dense()(branches)
        return blockwise_attention((self.block_t, self.block_s), *split_qkv(branches))


class TiledInputs(NamedTuple):
    """A branch split into tiles."""

    queries: dict[str, jax.Array]  # QUERY_FIELDS, [Q, B, t, ...]
    keys: dict[str, jax.Array]  # KEY_FIELDS, [C, B, s, ...]
    live_QC: jax.Array  # whether some query of a tile may see some key of the other
    rest: BranchInputs  # what is not split


def to_blocks(x: jax.Array, block: int, fill: int = 0) -> jax.Array:
    """Split [B, T, ...] into [Q, B, block, ...], with `fill` at the end of the last block."""
    B, T = x.shape[:2]
    x = jnp.pad(x, [(0, 0), (0, -T % block)] + [(0, 0)] * (x.ndim - 2), constant_values=fill)
    return jnp.moveaxis(x.reshape(B, -1, block, *x.shape[2:]), 1, 0)


def from_blocks(x: jax.Array, length: int) -> jax.Array:
    """Invert `to_blocks` of an array with T = `length`."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]


def tile_branch(branch: BranchInputs, blocks: tuple[int, int]) -> TiledInputs:
    """Split a branch into tiles of at most `blocks` queries and keys."""
    lengths = (branch.q_BTNH.shape[1], branch.k_BSKH.shape[1])
    block_t, block_s = (min(b, n) for b, n in zip(blocks, lengths, strict=True))
    queries = {name: to_blocks(getattr(branch, name), block_t) for name in QUERY_FIELDS}
    keys = {name: to_blocks(getattr(branch, name), block_s, -1 if "index" in name else 0) for name in KEY_FIELDS}
    lo, hi, index = queries["lo_BTM"], queries["hi_BTM"], keys["s_index_BS"]
    lowest_Q = jnp.where(lo < hi, lo, MAX_INDEX).min((1, 2, 3))
    highest_Q = jnp.where(lo < hi, hi, -1).max((1, 2, 3))
    first_C, last_C = jnp.where(index >= 0, index, MAX_INDEX).min((1, 2)), index.max((1, 2))
    live_QC = (last_C[None] >= lowest_Q[:, None]) & (first_C[None] < highest_Q[:, None])
    return TiledInputs(queries, keys, live_QC, branch.replace(**dict.fromkeys(QUERY_FIELDS + KEY_FIELDS)))


def tile_branches(
    arrays: tuple[Qkv, ...], rest: tuple[BranchInputs, ...], blocks: tuple[int, int]
) -> list[TiledInputs]:
    """Split all branches into tiles."""
    return [tile_branch(branch, blocks) for branch in join_qkv(arrays, rest)]


def query_tiles(tiled: list[TiledInputs]) -> list[tuple]:
    """What a loop over tiles of queries iterates over: of each branch, its queries and the live tiles of keys."""
    return [(branch.queries, branch.live_QC) for branch in tiled]


def blockwise_forward(
    blocks: tuple[int, int], arrays: tuple[Qkv, ...], rest: tuple[BranchInputs, ...]
) -> tuple[jax.Array, jax.Array]:
    """Return out_BTNH and lse_BTN (float32), the log of each row's summed weights; -MASK_VALUE of an empty row.

    Args:
      blocks: largest numbers of queries and of keys of a tile.
      arrays: queries, keys and values of each branch, see `split_qkv`.
      rest: the rest of each branch.

    """
    # Tiles' masks depend on positions alone. Without this they are hoisted out of the scan over layers, all at once.
    arrays, rest = jax.lax.optimization_barrier((arrays, rest))
    tiled = tile_branches(arrays, rest, blocks)
    B, T, N, H = arrays[0][0].shape
    K = arrays[0][1].shape[2]

    def attend_query_tile(query_tile):
        t = query_tile[0][0]["q_BTNH"].shape[1]
        zero = jnp.zeros((B, K, N // K, t), jnp.float32)
        carry = (jnp.zeros((B, t, K, N // K, H), jnp.float32), zero, zero + MASK_VALUE)
        for branch, (queries, live_C) in zip(tiled, query_tile, strict=True):
            carry, _ = jax.lax.scan(partial(accumulate_tile, branch.rest, queries), carry, (branch.keys, live_C))
        out, total, top = carry
        out = out / jnp.maximum(jnp.moveaxis(total, 3, 1), 1e-30)[..., None]
        # -MASK_VALUE of an empty row: its weights are 0 in the backward pass
        lse = jnp.where(total > 0, top + jnp.log(jnp.maximum(total, 1e-30)), -MASK_VALUE)
        return out.reshape(B, t, N, H), jnp.moveaxis(lse, 3, 1).reshape(B, t, N)

    out, lse = jax.lax.map(attend_query_tile, query_tiles(tiled))
    return from_blocks(out, T).astype(arrays[0][0].dtype), from_blocks(lse, T)


def accumulate_tile(rest: BranchInputs, queries: dict, carry: tuple, key_tile: tuple) -> tuple[tuple, None]:
    """One step of the online softmax: add a tile of keys to the sums so far."""
    keys, live = key_tile

    def add(carry):
        out, total, top = carry
        tile = rest.replace(**queries, **keys)
        x_BKGTS, visible = attention_scores(tile)
        new_top = jnp.maximum(top, x_BKGTS.max(-1))
        weight_BKGTS = jnp.where(visible, jnp.exp(x_BKGTS - new_top[..., None]), 0.0)
        decay = jnp.exp(top - new_top)
        out = out * jnp.moveaxis(decay, 3, 1)[..., None] + weighted_values(weight_BKGTS, tile)
        return out, total * decay + weight_BKGTS.sum(-1), new_top

    return jax.lax.cond(live, add, lambda carry: carry, carry), None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def blockwise_attention(blocks: tuple[int, int], arrays: tuple[Qkv, ...], rest: tuple[BranchInputs, ...]) -> jax.Array:
    """Return out_BTNH; arguments as of `blockwise_forward`."""
    return blockwise_forward(blocks, arrays, rest)[0]


def _attention_forward(blocks, arrays, rest):
    out_BTNH, lse_BTN = blockwise_forward(blocks, arrays, rest)
    return out_BTNH, (arrays, rest, out_BTNH, lse_BTN)


def _attention_backward(blocks, saved, d_out_BTNH):
    arrays, rest, out_BTNH, lse_BTN = saved
    tiled = tile_branches(arrays, rest, blocks)
    block_t = tiled[0].queries["q_BTNH"].shape[2]
    delta_BTN = (d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32)).sum(-1)
    rows = tuple(to_blocks(x, block_t) for x in (d_out_BTNH, lse_BTN, delta_BTN))

    def add_query_tile(sums, tile):
        rows, query_tile = tile
        new_sums, d_qs = [], []
        for branch, (queries, live_C), (dk, dv) in zip(tiled, query_tile, sums, strict=True):
            start = (jnp.zeros(queries["q_BTNH"].shape, jnp.float32), dk, dv)
            step = partial(accumulate_tile_gradients, branch.rest, queries, rows)
            (dq, dk, dv), _ = jax.lax.scan(step, start, (branch.keys, live_C, jnp.arange(live_C.shape[0])))
            new_sums.append((dk, dv))
            d_qs.append(dq)
        return new_sums, d_qs

    zeros = [tuple(jnp.zeros(x.keys[name].shape, jnp.float32) for name in ("k_BSKH", "v_BSKH")) for x in tiled]
    sums, d_qs = jax.lax.scan(add_query_tile, zeros, (rows, query_tiles(tiled)))
    d_arrays = tuple(
        tuple(from_blocks(d, x.shape[1]).astype(x.dtype) for d, x in zip((dq, dk, dv), qkv, strict=True))
        for dq, (dk, dv), qkv in zip(d_qs, sums, arrays, strict=True)
    )
    return d_arrays, None


def accumulate_tile_gradients(
    rest: BranchInputs, queries: dict, rows: tuple, carry: tuple, key_tile: tuple
) -> tuple[tuple, None]:
    """Add the gradients of one pair of tiles to those of its queries and of its keys."""
    dq, dk, dv = carry
    keys, live, c = key_tile
    tile = rest.replace(**queries, **keys)

    def zeros():
        return jnp.zeros_like(dq), *(jnp.zeros(x.shape, jnp.float32) for x in (tile.k_BSKH, tile.v_BSKH))

    add_q, add_k, add_v = jax.lax.cond(live, partial(tile_gradients, tile, *rows), zeros)
    return (dq + add_q, dk.at[c].add(add_k), dv.at[c].add(add_v)), None


def tile_gradients(tile: BranchInputs, d_out_BTNH: jax.Array, lse_BTN: jax.Array, delta_BTN: jax.Array) -> tuple:
    """Return dq_BTNH, dk_BSKH, dv_BSKH of one pair of tiles, float32. delta: the dot product of out and d_out."""
    B, T, N, H = tile.q_BTNH.shape
    K = tile.k_BSKH.shape[2]

    def by_group(x_BTN):
        return jnp.moveaxis(x_BTN.reshape(B, T, K, N // K), 1, 3)[..., None]

    x_BKGTS, visible = attention_scores(tile)
    p_BKGTS = jnp.where(visible, jnp.exp(x_BKGTS - by_group(lse_BTN)), 0.0)
    q_BTKGH, d_BTKGH = (x.reshape(B, T, K, N // K, H) for x in (tile.q_BTNH, d_out_BTNH.astype(tile.q_BTNH.dtype)))
    dot = partial(jnp.einsum, preferred_element_type=jnp.float32)
    dv_BSKH = dot("BKGTS,BTKGH->BSKH", p_BKGTS.astype(d_BTKGH.dtype), d_BTKGH)
    dp_BKGTS = dot("BTKGH,BSKH->BKGTS", d_BTKGH, tile.v_BSKH)
    ds_BKGTS = (p_BKGTS * (dp_BKGTS - by_group(delta_BTN)) * H**-0.5).astype(q_BTKGH.dtype)
    dq_BTNH = dot("BKGTS,BSKH->BTKGH", ds_BKGTS, tile.k_BSKH).reshape(B, T, N, H)
    return dq_BTNH, dot("BKGTS,BTKGH->BSKH", ds_BKGTS, q_BTKGH), dv_BSKH


blockwise_attention.defvjp(_attention_forward, _attention_backward)
