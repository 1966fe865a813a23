"""The softmax of one query a row, read from the cache where it lies: split-K decoding in Pallas (Flash-Decoding).

A token costs one reading of the keys that its interval holds, so programs share them out: each takes a run of slots of
one key head and row, and the pieces are merged by their log-sum-exp. The cache of all layers is given as it is, with
the layer's number: a slice of it would be a copy. Letters as in attention.py; P queries of a group, filled up to what a
product of tiles takes, C pieces of the keys.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from absl import logging
from jax.experimental import pallas as pl

from longjax.attention.core import (
    MASK_VALUE,
    AttentionBackend,
    BranchInputs,
    Dense,
    StackedCache,
    attention_scores,
    weighted_values,
)
from longjax.attention.kernels.triton_tiles import dot, plgpu

MAX_DECODE_QUERIES = 256  # keys; so few cost less as plain products
PROGRAMS = 1024  # that keep a GPU busy


@dataclasses.dataclass(frozen=True)
class TritonDecode:
    """What it cannot do, `otherwise` does, as a whole. A program reads `block` keys at a time."""

    fallback: AttentionBackend = Dense()
    block: int = 64
    interpret: bool = False

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array:
        why = next(filter(None, map(decode_unsupported_reason, parts)), None)
        if why:
            logging.log_first_n(logging.INFO, "decoding: %s: attention by %s", 1, why, self.fallback)
            return self.fallback(parts)
        out_BKGH, _ = decode_attention(parts, self)
        return out_BKGH.reshape(parts[0].q_BTNH.shape).astype(parts[0].q_BTNH.dtype)


def decode_attention(parts: tuple[BranchInputs, ...], how: TritonDecode | None) -> tuple[jax.Array, jax.Array]:
    """-> out_BKGH, lse_BKG in float32, of one query a row. None: without the kernel."""
    pieces = [decode_branch(p) if how is None or has_few_queries(p) else attend_with_fallback(how, p) for p in parts]
    out_BKGCH, lse_BKGC = (jnp.concatenate(xs, axis=3) for xs in zip(*pieces, strict=True))
    share_BKGC = jax.nn.softmax(lse_BKGC, axis=-1)
    return jnp.sum(out_BKGCH * share_BKGC[..., None], axis=3), jax.nn.logsumexp(lse_BKGC, axis=-1)


def has_few_queries(part: BranchInputs) -> bool:
    return part.k_BSKH.shape[1] <= MAX_DECODE_QUERIES


def decode_unsupported_reason(part: BranchInputs) -> str | None:
    """-> why the kernel cannot do this part; None if it can."""
    T, H = part.q_BTNH.shape[1], part.q_BTNH.shape[-1]
    if T > 1:
        return "several queries a row"
    if has_few_queries(part):
        return None
    if part.mask is not None or part.slopes_N is not None:
        return "a bias or a mask of pairs"
    if part.stacked_cache is None:
        return "keys outside of a cache"
    return None if pl.next_power_of_2(H) == H and H >= 16 else f"a head width of {H}"


def decode_branch(part: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """-> out_BKGCH, lse_BKGC, of a single piece."""
    x_BKGTS, seen = attention_scores(part)
    top_BKGT = x_BKGTS.max(-1)
    weight_BKGTS = jnp.where(seen, jnp.exp(x_BKGTS - top_BKGT[..., None]), 0.0)
    total_BKGT = weight_BKGTS.sum(-1)
    some_BKGT = jnp.maximum(total_BKGT, 1e-30)
    out = jnp.moveaxis(weighted_values(weight_BKGTS, part), 1, 3) / some_BKGT[..., None]
    return out, jnp.where(total_BKGT > 0, top_BKGT + jnp.log(some_BKGT), MASK_VALUE)


def attend_with_fallback(how: TritonDecode, part: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """-> out_BKGCH, lse_BKGC (float32, NEVER of an empty piece)."""
    assert part.stacked_cache is not None
    (B, _, N, H), (S, K) = part.q_BTNH.shape, part.k_BSKH.shape[1:3]
    G, C = N // K, max(1, min(PROGRAMS // (B * K), S // how.block))
    P = max(16, pl.next_power_of_2(G))
    q_BKPH = jnp.pad(part.q_BTNH.reshape(B, K, G, H), [(0, 0), (0, 0), (0, P - G), (0, 0)])
    lo_BKP, hi_BKP = (by_group(x[:, 0], K, G, P) for x in (part.lo_BTM, part.hi_BTM))
    group = pl.BlockSpec((None, None, P), lambda b, k, c: (b, k, 0))
    stored, layers = part.stacked_cache, part.stacked_cache.index_LBS.shape[0]
    keys = pl.BlockSpec((layers, None, S, None, H), lambda b, k, c: (0, b, 0, k, 0))
    out_BKCPH, lse_BKCP = pl.pallas_call(
        partial(decode_kernel, block=how.block, pieces=C, group=G),
        grid=(B, K, C),
        in_specs=[
            pl.BlockSpec((None, 3), lambda b, k, c: (b, 0)),
            pl.BlockSpec((None, None, P, H), lambda b, k, c: (b, k, 0, 0)),
            group,
            group,
            pl.BlockSpec((layers, None, S), lambda b, k, c: (0, b, 0)),
            keys,
            keys,
        ],
        out_specs=(
            pl.BlockSpec((None, None, None, P, H), lambda b, k, c: (b, k, c, 0, 0)),
            pl.BlockSpec((None, None, None, P), lambda b, k, c: (b, k, c, 0)),
        ),
        out_shape=(jax.ShapeDtypeStruct((B, K, C, P, H), jnp.float32), jax.ShapeDtypeStruct((B, K, C, P), jnp.float32)),
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=4),
        interpret=how.interpret,
        name="decode",
    )(live_tiles(part, stored, how.block), q_BKPH, lo_BKP, hi_BKP, stored.index_LBS, stored.k_LBSKH, stored.v_LBSKH)
    return jnp.swapaxes(out_BKCPH, 2, 3)[:, :, :G], jnp.swapaxes(lse_BKCP, 2, 3)[:, :, :G]


def by_group(x_BM: jax.Array, K: int, G: int, P: int) -> jax.Array:
    """-> x_BKP: of each query of a group; 0 for those that are none."""
    x_BN = jnp.broadcast_to(x_BM, (x_BM.shape[0], K * G))
    return jnp.pad(x_BN.reshape(-1, K, G), [(0, 0), (0, 0), (0, P - G)])


def live_tiles(part: BranchInputs, stored: StackedCache, block: int) -> jax.Array:
    """-> of each row: the layer, the first tile of keys that may be seen, and the last but one.

    As token j lies in slot j mod S, no slot from the interval's end on is seen, and none before its beginning unless
    slots have begun anew.
    """
    S = part.k_BSKH.shape[1]
    lowest_B, highest_B = part.lo_BTM.min((1, 2)) - stored.offset, part.hi_BTM.max((1, 2)) - stored.offset
    first_B = jnp.where(highest_B <= S, jnp.maximum(lowest_B, 0) // block, 0)
    last_B = -(-jnp.clip(highest_B, 0, S) // block)
    return jnp.stack([jnp.full_like(first_B, stored.layer), first_B, last_B], axis=1)


def decode_kernel(tiles_ref, q_ref, lo_ref, hi_ref, index_ref, k_ref, v_ref, out_ref, lse_ref, *, block, pieces, group):
    """One piece of the keys of one row and key head: the online softmax over its tiles."""
    q_PH, lo_P, hi_P = q_ref[...], lo_ref[...], hi_ref[...]
    P, H = q_PH.shape
    layer, first, last = (tiles_ref[i] for i in range(3))
    share = (last - first + pieces - 1) // pieces
    begin = first + pl.program_id(2) * share

    def join(tile, carry):
        out_PH, total_P, top_P = carry
        slot = tile * block
        start = jnp.minimum(slot, k_ref.shape[1] - block)  # the last tile begins earlier, and leaves out what was seen
        at = (layer, pl.ds(start, block))
        index_S = jnp.where(start + jnp.arange(block) >= slot, index_ref[at], -1)
        x_PS = dot(q_PH, k_ref[at].T) * H**-0.5
        seen_PS = (lo_P[:, None] <= index_S[None, :]) & (index_S[None, :] < hi_P[:, None])
        new_P = jnp.maximum(top_P, jnp.where(seen_PS, x_PS, MASK_VALUE).max(1))
        weight_PS = jnp.where(seen_PS, jnp.exp(x_PS - new_P[:, None]), 0.0)
        decay_P, v_SH = jnp.exp(top_P - new_P), v_ref[at]
        out_PH = out_PH * decay_P[:, None] + dot(weight_PS.astype(v_SH.dtype), v_SH)
        return out_PH, total_P * decay_P + weight_PS.sum(1), new_P

    zero_P = jnp.zeros(P, jnp.float32)
    start = (jnp.zeros((P, H), jnp.float32), zero_P, zero_P + MASK_VALUE)
    out_PH, total_P, top_P = jax.lax.fori_loop(begin, jnp.minimum(begin + share, last), join, start)
    some_P, is_query_P = jnp.maximum(total_P, 1e-30), jnp.arange(P) < group
    plgpu.store(out_ref, out_PH / some_P[:, None], mask=jnp.broadcast_to(is_query_P[:, None], (P, H)))
    plgpu.store(lse_ref, jnp.where(total_P > 0, top_P + jnp.log(some_P), MASK_VALUE), mask=is_query_P)
