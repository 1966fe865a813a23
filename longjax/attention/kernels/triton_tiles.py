"""Parts of the softmax laid out for the Triton kernels: padded, with the tiles that each tile must visit.

Every query carries its interval [lo, hi) of keys as data, so any union of intervals runs: packed documents, intervals
that differ between heads, a chunk of a prompt against a cache with empty slots. Letters as in attention.py; Q and C
count tiles of queries and of keys.
"""

import contextlib
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from longjax.attention.core import BranchInputs, Mask

plgpu: Any = None
with contextlib.suppress(ImportError):  # its end is announced: jax will come without it
    from jax.experimental.pallas import triton as plgpu

LOG2E = math.log2(math.e)  # exponentials are powers of two: what the hardware has
PADDING_INDEX = 2**30


@dataclasses.dataclass(frozen=True)
class Tile:
    """What one program of a kernel works on at a time, and what the compiler makes of it."""

    block_t: int
    block_s: int
    warps: int = 8
    stages: int = 2

    def fitted(self, part: BranchInputs) -> "Tile":
        """No larger than the part, and half as large where rows of queries are wider than 256 bytes."""
        row_bytes = width(part) * part.q_BTNH.dtype.itemsize
        shrink = max(1, row_bytes // 256)
        block_t, block_s = (
            max(16, min(block // shrink, pl.next_power_of_2(length)))  # 16: the least a product of tiles takes
            for block, length in ((self.block_t, part.q_BTNH.shape[1]), (self.block_s, part.k_BSKH.shape[1]))
        )
        return dataclasses.replace(self, block_t=block_t, block_s=block_s)

    def params(self) -> Any:
        return plgpu.CompilerParams(num_warps=self.warps, num_stages=self.stages)


class QueryArrays(NamedTuple):
    """What queries bring beside their vectors: arrays, what refers to them in a kernel, or how they are cut."""

    lo: Any  # [B, M, T]
    hi: Any
    index: Any  # [B, T], for a mask; None where there is none
    position: Any  # [B, T], for slopes


class KeyArrays(NamedTuple):
    """What keys bring beside their vectors."""

    index: Any  # [B, S]
    position: Any


class PaddedInputs(NamedTuple):
    """A part, padded to whole tiles."""

    q: Any
    k: Any
    v: Any
    queries: QueryArrays
    keys: KeyArrays
    slopes: Any  # [N]


def width(part: BranchInputs) -> int:
    """Head width inside the kernels."""
    return max(16, pl.next_power_of_2(part.q_BTNH.shape[-1]))


def pad_to(x: jax.Array, sizes: dict[int, int], fill: int = 0) -> jax.Array:
    """Each of the axes `sizes` filled up to a multiple."""
    return jnp.pad(x, [(0, -n % sizes.get(axis, 1)) for axis, n in enumerate(x.shape)], constant_values=fill)


def pad_inputs(part: BranchInputs, tile: Tile) -> PaddedInputs:
    """Queries that are padding see nothing; keys that are padding are empty slots."""
    t, s, h = tile.block_t, tile.block_s, width(part)
    lo_BMT, hi_BMT = (pad_to(x.swapaxes(1, 2), {2: t}) for x in (part.lo_BTM, part.hi_BTM))
    t_index = None if part.mask is None else pad_to(part.t_index_BT, {1: t})
    t_place = None if part.slopes_N is None else pad_to(part.t_position_BT, {1: t})
    s_place = None if part.slopes_N is None else pad_to(part.s_position_BS, {1: s})
    q, k, v = (pad_to(x, {1: n, 3: h}) for x, n in ((part.q_BTNH, t), (part.k_BSKH, s), (part.v_BSKH, s)))
    asks, gives = QueryArrays(lo_BMT, hi_BMT, t_index, t_place), KeyArrays(pad_to(part.s_index_BS, {1: s}, -1), s_place)
    return PaddedInputs(q, k, v, asks, gives, part.slopes_N)


def live_tile_pairs(laid: PaddedInputs, tile: Tile, mask: Mask | None) -> tuple[jax.Array, jax.Array]:
    """-> live_BMQC: some query of the tile may see some key; full_BMQC: every query sees every key."""
    B, M, T = laid.queries.lo.shape
    lo, hi = (x.reshape(B, M, T // tile.block_t, 1, tile.block_t) for x in (laid.queries.lo, laid.queries.hi))
    index = laid.keys.index.reshape(B, 1, 1, -1, tile.block_s)
    lowest, highest = jnp.where(lo < hi, lo, PADDING_INDEX).min(-1), jnp.where(lo < hi, hi, -1).max(-1)
    first, last = jnp.where(index >= 0, index, PADDING_INDEX).min(-1), index.max(-1)
    live_BMQC = (last >= lowest) & (first < highest)
    full_BMQC = live_BMQC & (index.min(-1) >= lo.max(-1)) & (last < hi.min(-1))
    return live_BMQC, full_BMQC if mask is None else jnp.zeros_like(full_BMQC)


def tile_ranges(live: jax.Array, full: jax.Array) -> jax.Array:
    """Along the last axis -> [..., 4]: from the first to behind the last live tile; of these, a run of full ones."""
    count = live.shape[-1]
    tiles = jnp.arange(count, dtype=jnp.int32)
    first = jnp.where(live, tiles, count).min(-1)
    last = jnp.where(live, tiles + 1, 0).max(-1)
    first = jnp.minimum(first, last)  # none live: none visited
    inner = jnp.minimum(jnp.where(full, tiles, count).min(-1), last)
    ends = ~full & (tiles > inner[..., None])
    outer = jnp.minimum(jnp.where(ends, tiles, count).min(-1), last)
    return jnp.stack([first, inner, outer, last], axis=-1)


class Specs(NamedTuple):
    """Which piece of each array a program of the grid sees."""

    grid: tuple[int, int, int]
    ranges: pl.BlockSpec  # of [B, M, Q or C, 4], see `visits`
    laid: PaddedInputs
    vectors: pl.BlockSpec  # of [B, T, N, H]
    numbers: pl.BlockSpec  # of [B, N, T]


def all_specs(spec: pl.BlockSpec, arrays: Any) -> Any:
    """-> `arrays`, as far as there are any, cut as `spec` says."""
    return jax.tree.map(lambda _: spec, arrays)


def by_queries(laid: PaddedInputs, tile: Tile) -> Specs:
    """A program a tile of queries and head. Late tiles, which see most, begin; short ones fill the end."""
    B, T, N, H = laid.q.shape
    S, K = laid.k.shape[1:3]
    t, alike, last = tile.block_t, laid.queries.lo.shape[1] == 1, T // tile.block_t - 1

    vectors = pl.BlockSpec((None, t, None, H), lambda i, n, b: (b, last - i, n, 0))
    keys = pl.BlockSpec((None, S, None, H), lambda i, n, b: (b, 0, n // (N // K), 0))
    ends = pl.BlockSpec((None, None, t), lambda i, n, b: (b, 0 if alike else n, last - i))
    asks = all_specs(pl.BlockSpec((None, t), lambda i, n, b: (b, last - i)), laid.queries)._replace(lo=ends, hi=ends)
    gives = all_specs(pl.BlockSpec((None, S), lambda i, n, b: (b, 0)), laid.keys)
    slopes = all_specs(pl.BlockSpec((1,), lambda i, n, b: (n,)), laid.slopes)
    return Specs(
        (last + 1, N, B),
        pl.BlockSpec((None, 1, None, 4), lambda i, n, b: (b, 0 if alike else n, last - i, 0)),
        PaddedInputs(vectors, keys, keys, asks, gives, slopes),
        vectors,
        pl.BlockSpec((None, None, t), lambda i, n, b: (b, n, last - i)),
    )


def by_keys(laid: PaddedInputs, tile: Tile) -> Specs:
    """A program a tile of keys and kv head, with all query heads of its group."""
    B, T, N, H = laid.q.shape
    S, K = laid.k.shape[1:3]
    G, s, alike = N // K, tile.block_s, laid.queries.lo.shape[1] == 1

    vectors = pl.BlockSpec((None, T, G, H), lambda c, k, b: (b, 0, k, 0))
    keys = pl.BlockSpec((None, s, None, H), lambda c, k, b: (b, c, k, 0))
    ends = pl.BlockSpec((None, 1 if alike else G, T), lambda c, k, b: (b, 0 if alike else k, 0))
    asks = all_specs(pl.BlockSpec((None, T), lambda c, k, b: (b, 0)), laid.queries)._replace(lo=ends, hi=ends)
    gives = all_specs(pl.BlockSpec((None, s), lambda c, k, b: (b, c)), laid.keys)
    slopes = all_specs(pl.BlockSpec((G,), lambda c, k, b: (k,)), laid.slopes)
    return Specs(
        (S // s, K, B),
        pl.BlockSpec((None, 1 if alike else G, None, 4), lambda c, k, b: (b, 0 if alike else k, c, 0)),
        PaddedInputs(vectors, keys, keys, asks, gives, slopes),
        vectors,
        pl.BlockSpec((None, G, T), lambda c, k, b: (b, k, 0)),
    )


def loop_over_tiles(ranges_ref, m, step, carry):
    """`step(tile, carry, masked)` over the tiles of a range of `visits`: masked ones at both ends, then the run."""
    first, inner, outer, last = (ranges_ref[m, i] for i in range(4))
    left = inner - first

    def edge(n, carry):
        return step(jnp.where(n < left, first + n, outer + n - left), carry, True)

    carry = jax.lax.fori_loop(0, left + last - outer, edge, carry)
    return jax.lax.fori_loop(inner, outer, lambda tile, carry: step(tile, carry, False), carry)


def columns(refs, at: Any = ...):
    """-> the arrays behind the references (those that are there), or their rows `at`, as columns of a tile."""
    return jax.tree.map(lambda ref: ref[at][:, None], refs)


def rows(refs, at: Any = ...):
    return jax.tree.map(lambda ref: ref[at][None, :], refs)


def dot(x, y):
    """A product of tiles, summed in float32; float32 tiles are multiplied as such, not as TF32."""
    exact = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.dot(x, y, precision=exact, preferred_element_type=jnp.float32)


def scaled_score(product, asks: QueryArrays, gives: KeyArrays, slope):
    """Of each pair, to be scaled yet; asks and gives broadcast to the product's shape. `slope` is divided by scale."""
    return product if slope is None else product - slope * (asks.position - gives.position)


def softmax_weights(score, scale: float, log, interpret: bool):
    """2 ** (score * scale - log): on the GPU two instructions, which the compiler by itself does not make of it."""
    if interpret:
        return jnp.exp2(score * scale - log)
    shape = jax.ShapeDtypeStruct(score.shape, jnp.float32)
    return plgpu.elementwise_inline_asm(
        "{ .reg .f32 x; fma.rn.f32 x, $1, $2, $3; ex2.approx.ftz.f32 $0, x; }",
        args=(score, jnp.full(score.shape, scale, jnp.float32), jnp.broadcast_to(-log, score.shape)),
        constraints="=f,f,f,f",
        pack=1,
        result_shape_dtypes=(shape,),
    )[0]


def visible_pairs(asks: QueryArrays, gives: KeyArrays, mask: Mask | None):
    inside = (asks.lo <= gives.index) & (gives.index < asks.hi)
    return inside if mask is None else inside & mask(asks.index, gives.index)
