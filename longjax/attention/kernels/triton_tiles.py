"""Inputs of the Triton kernels: padded branches, tiles, the tiles that each tile must visit, and shared arithmetic.

Every query carries its interval [lo, hi) of keys as data, so any union of intervals runs: packed documents, intervals
that differ between heads, a chunk of a prompt against a cache with empty slots. Letters as in core.py; Q and C count
tiles of queries and of keys.
"""

import contextlib
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from longjax.attention.branches import MaskFn
from longjax.attention.core import MAX_INDEX, BranchInputs

plgpu: Any = None
with contextlib.suppress(ImportError):  # jax has announced its removal
    from jax.experimental.pallas import triton as plgpu

LOG2E = math.log2(math.e)  # kernels compute exponentials as powers of two, as the hardware does


@dataclasses.dataclass(frozen=True)
class Tile:
    """The tile that one program of a kernel works on at a time, and its compiler parameters."""

    block_t: int
    block_s: int
    warps: int = 8
    stages: int = 2

    def fit(self, branch: BranchInputs) -> "Tile":
        """The tile no larger than the branch, and smaller where one head of a query exceeds 256 bytes."""
        row_bytes = padded_head_dim(branch) * branch.q_BTNH.dtype.itemsize
        shrink = max(1, row_bytes // 256)
        block_t, block_s = (
            max(16, min(block // shrink, pl.next_power_of_2(length)))  # 16: the smallest tile of a matrix product
            for block, length in ((self.block_t, branch.q_BTNH.shape[1]), (self.block_s, branch.k_BSKH.shape[1]))
        )
        return dataclasses.replace(self, block_t=block_t, block_s=block_s)

    def params(self) -> Any:
        """Compiler parameters of the kernel."""
        return plgpu.CompilerParams(num_warps=self.warps, num_stages=self.stages)


class QueryArrays(NamedTuple):
    """Per-query inputs beside the vectors: arrays, references to them in a kernel, or their block specs."""

    lo: Any  # [B, M, T]
    hi: Any
    index: Any  # [B, T], for a mask; None without one
    position: Any  # [B, T], for slopes


class KeyArrays(NamedTuple):
    """Per-key inputs beside the vectors."""

    index: Any  # [B, S]
    position: Any


class PaddedInputs(NamedTuple):
    """A branch padded to whole tiles: arrays, references to them in a kernel, or their block specs."""

    q: Any
    k: Any
    v: Any
    queries: QueryArrays
    keys: KeyArrays
    slopes: Any  # [N]


def padded_head_dim(branch: BranchInputs) -> int:
    """Head width inside the kernels, a power of two."""
    return max(16, pl.next_power_of_2(branch.q_BTNH.shape[-1]))


def pad_to(x: jax.Array, sizes: dict[int, int], fill: int = 0) -> jax.Array:
    """Pad axes with `fill` at the end; `sizes` maps each axis to the number that its length becomes a multiple of."""
    return jnp.pad(x, [(0, -n % sizes.get(axis, 1)) for axis, n in enumerate(x.shape)], constant_values=fill)


def pad_inputs(branch: BranchInputs, tile: Tile) -> PaddedInputs:
    """Pad a branch to whole tiles. Padding of queries sees nothing; padding of keys is empty slots."""
    t, s, h = tile.block_t, tile.block_s, padded_head_dim(branch)
    lo_BMT, hi_BMT = (pad_to(x.swapaxes(1, 2), {2: t}) for x in (branch.lo_BTM, branch.hi_BTM))
    t_index = None if branch.mask is None else pad_to(branch.t_index_BT, {1: t})
    t_position = None if branch.slopes_N is None else pad_to(branch.t_position_BT, {1: t})
    s_position = None if branch.slopes_N is None else pad_to(branch.s_position_BS, {1: s})
    q, k, v = (pad_to(x, {1: n, 3: h}) for x, n in ((branch.q_BTNH, t), (branch.k_BSKH, s), (branch.v_BSKH, s)))
    queries = QueryArrays(lo_BMT, hi_BMT, t_index, t_position)
    return PaddedInputs(q, k, v, queries, KeyArrays(pad_to(branch.s_index_BS, {1: s}, -1), s_position), branch.slopes_N)


def live_tile_pairs(padded: PaddedInputs, tile: Tile, mask: MaskFn | None) -> tuple[jax.Array, jax.Array]:
    """Return live_BMQC, some query of the tile may see some key, and full_BMQC, every query sees every key."""
    B, M, T = padded.queries.lo.shape
    lo, hi = (x.reshape(B, M, T // tile.block_t, 1, tile.block_t) for x in (padded.queries.lo, padded.queries.hi))
    index = padded.keys.index.reshape(B, 1, 1, -1, tile.block_s)
    lowest, highest = jnp.where(lo < hi, lo, MAX_INDEX).min(-1), jnp.where(lo < hi, hi, -1).max(-1)
    first, last = jnp.where(index >= 0, index, MAX_INDEX).min(-1), index.max(-1)
    live_BMQC = (last >= lowest) & (first < highest)
    full_BMQC = live_BMQC & (index.min(-1) >= lo.max(-1)) & (last < hi.min(-1))
    return live_BMQC, full_BMQC if mask is None else jnp.zeros_like(full_BMQC)


def tile_ranges(live: jax.Array, full: jax.Array) -> jax.Array:
    """Return the ranges [..., 4] of tiles to visit along the last axis: first, inner, outer, last.

    Tiles first .. last - 1 are visited. Of these, inner .. outer - 1 is a run of full ones, which need no mask.
    """
    count = live.shape[-1]
    tiles = jnp.arange(count, dtype=jnp.int32)
    first = jnp.where(live, tiles, count).min(-1)
    last = jnp.where(live, tiles + 1, 0).max(-1)
    first = jnp.minimum(first, last)  # none live: none visited
    inner = jnp.minimum(jnp.where(full, tiles, count).min(-1), last)
    after_run = ~full & (tiles > inner[..., None])
    outer = jnp.minimum(jnp.where(after_run, tiles, count).min(-1), last)
    return jnp.stack([first, inner, outer, last], axis=-1)


class KernelSpecs(NamedTuple):
    """The grid of a kernel, and the piece of each array that one of its programs sees."""

    grid: tuple[int, int, int]
    ranges: pl.BlockSpec  # of [B, M, Q or C, 4], see `tile_ranges`
    padded: PaddedInputs
    vectors: pl.BlockSpec  # of [B, T, N, H]
    numbers: pl.BlockSpec  # of [B, N, T]


def same_spec(spec: pl.BlockSpec, arrays: Any) -> Any:
    """Return `arrays` with `spec` in the place of each array; None stays None."""
    return jax.tree.map(lambda _: spec, arrays)


def query_grid(padded: PaddedInputs, tile: Tile) -> KernelSpecs:
    """One program for each tile of queries and head. Late tiles, which see most, run first; short ones fill the end."""
    B, T, N, H = padded.q.shape
    S, K = padded.k.shape[1:3]
    t, alike, last = tile.block_t, padded.queries.lo.shape[1] == 1, T // tile.block_t - 1

    vectors = pl.BlockSpec((None, t, None, H), lambda i, n, b: (b, last - i, n, 0))
    keys = pl.BlockSpec((None, S, None, H), lambda i, n, b: (b, 0, n // (N // K), 0))
    bounds = pl.BlockSpec((None, None, t), lambda i, n, b: (b, 0 if alike else n, last - i))
    per_query = same_spec(pl.BlockSpec((None, t), lambda i, n, b: (b, last - i)), padded.queries)
    per_key = same_spec(pl.BlockSpec((None, S), lambda i, n, b: (b, 0)), padded.keys)
    slopes = same_spec(pl.BlockSpec((1,), lambda i, n, b: (n,)), padded.slopes)
    return KernelSpecs(
        (last + 1, N, B),
        pl.BlockSpec((None, 1, None, 4), lambda i, n, b: (b, 0 if alike else n, last - i, 0)),
        PaddedInputs(vectors, keys, keys, per_query._replace(lo=bounds, hi=bounds), per_key, slopes),
        vectors,
        pl.BlockSpec((None, None, t), lambda i, n, b: (b, n, last - i)),
    )


def key_grid(padded: PaddedInputs, tile: Tile) -> KernelSpecs:
    """One program for each tile of keys and key head, with all query heads of its group."""
    B, T, N, H = padded.q.shape
    S, K = padded.k.shape[1:3]
    G, s, alike = N // K, tile.block_s, padded.queries.lo.shape[1] == 1

    vectors = pl.BlockSpec((None, T, G, H), lambda c, k, b: (b, 0, k, 0))
    keys = pl.BlockSpec((None, s, None, H), lambda c, k, b: (b, c, k, 0))
    bounds = pl.BlockSpec((None, 1 if alike else G, T), lambda c, k, b: (b, 0 if alike else k, 0))
    per_query = same_spec(pl.BlockSpec((None, T), lambda c, k, b: (b, 0)), padded.queries)
    per_key = same_spec(pl.BlockSpec((None, s), lambda c, k, b: (b, c)), padded.keys)
    slopes = same_spec(pl.BlockSpec((G,), lambda c, k, b: (k,)), padded.slopes)
    return KernelSpecs(
        (S // s, K, B),
        pl.BlockSpec((None, 1 if alike else G, None, 4), lambda c, k, b: (b, 0 if alike else k, c, 0)),
        PaddedInputs(vectors, keys, keys, per_query._replace(lo=bounds, hi=bounds), per_key, slopes),
        vectors,
        pl.BlockSpec((None, G, T), lambda c, k, b: (b, k, 0)),
    )


def loop_over_tiles(ranges_ref, m, step, carry):
    """Fold `step(tile, carry, masked)` over row `m` of `tile_ranges`: masked tiles at both ends, then the full run."""
    first, inner, outer, last = (ranges_ref[m, i] for i in range(4))
    left = inner - first

    def edge(n, carry):
        return step(jnp.where(n < left, first + n, outer + n - left), carry, True)

    carry = jax.lax.fori_loop(0, left + last - outer, edge, carry)
    return jax.lax.fori_loop(inner, outer, lambda tile, carry: step(tile, carry, False), carry)


def load_columns(refs, at: Any = ...):
    """Load the arrays behind references, or their entries `at`, as columns of a tile; None stays None."""
    return jax.tree.map(lambda ref: ref[at][:, None], refs)


def load_rows(refs, at: Any = ...):
    """Load the arrays behind references, or their entries `at`, as rows of a tile; None stays None."""
    return jax.tree.map(lambda ref: ref[at][None, :], refs)


def dot(x, y):
    """Multiply two tiles and sum in float32; float32 tiles are multiplied exactly, not as TF32."""
    exact = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.dot(x, y, precision=exact, preferred_element_type=jnp.float32)


def biased_scores(product, queries: QueryArrays, keys: KeyArrays, slope):
    """Add ALiBi's bias to unscaled scores. `slope` is divided by the scale; queries and keys broadcast to the tile."""
    return product if slope is None else product - slope * (queries.position - keys.position)


def softmax_weights(score, scale: float, log, interpret: bool):
    """Compute 2 ** (score * scale - log): by two GPU instructions, which the compiler would not choose by itself."""
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


def visible_pairs(queries: QueryArrays, keys: KeyArrays, mask: MaskFn | None):
    """Return which pairs of a tile are seen; queries and keys broadcast to the tile."""
    inside = (queries.lo <= keys.index) & (keys.index < queries.hi)
    return inside if mask is None else inside & mask(queries.index, keys.index)
