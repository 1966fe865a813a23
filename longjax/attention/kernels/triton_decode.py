"""The softmax of one query a row, reading the cache in place: split-K decoding in Pallas (Flash-Decoding).

A token costs one reading of the keys in its interval, so programs divide them: each takes a run of slots of one key
head and row, and the pieces are merged by their log-sum-exp. Kernels get the cache of all layers and the layer's
number: a slice of it would be a copy. Letters as in core.py; P queries of a group, padded to the smallest tile of a
matrix product, C pieces of the keys.
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

MIN_DECODE_KEYS = 256  # no more keys cost less as plain matrix products
PROGRAMS = 1024  # enough to keep a GPU busy


@dataclasses.dataclass(frozen=True)
class TritonDecode:
    """Decoding by a kernel whose programs read `block` keys at a time; `fallback` does what it does not support."""

    fallback: AttentionBackend = Dense()
    block: int = 64
    interpret: bool = False

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        reason = next(filter(None, map(decode_unsupported_reason, branches)), None)
        if reason:
            logging.log_first_n(logging.INFO, "decoding: %s: attention by %s", 1, reason, self.fallback)
            return self.fallback(branches)
        out_BKGH, _ = decode_attention(branches, self)
        return out_BKGH.reshape(branches[0].q_BTNH.shape).astype(branches[0].q_BTNH.dtype)


def decode_attention(branches: tuple[BranchInputs, ...], config: TritonDecode | None) -> tuple[jax.Array, jax.Array]:
    """Compute attention of one query a row.

    Args:
      branches: those that `decode_unsupported_reason` accepts.
      config: of the kernel; None: by plain matrix products.

    Returns:
      out_BKGH, lse_BKG in float32.

    """
    pieces = [
        decode_by_products(branch) if config is None or has_few_keys(branch) else decode_by_kernel(config, branch)
        for branch in branches
    ]
    out_BKGCH, lse_BKGC = (jnp.concatenate(xs, axis=3) for xs in zip(*pieces, strict=True))
    share_BKGC = jax.nn.softmax(lse_BKGC, axis=-1)
    return jnp.sum(out_BKGCH * share_BKGC[..., None], axis=3), jax.nn.logsumexp(lse_BKGC, axis=-1)


def has_few_keys(branch: BranchInputs) -> bool:
    """Whether plain matrix products are cheaper than the kernel."""
    return branch.k_BSKH.shape[1] <= MIN_DECODE_KEYS


def decode_unsupported_reason(branch: BranchInputs) -> str | None:
    """Return why the kernel cannot do this branch; None if it can."""
    T, H = branch.q_BTNH.shape[1], branch.q_BTNH.shape[-1]
    if T > 1:
        return "several queries a row"
    if has_few_keys(branch):
        return None
    if branch.mask is not None or branch.slopes_N is not None:
        return "a bias or a mask of pairs"
    if branch.stacked_cache is None:
        return "keys outside of a cache"
    return None if pl.next_power_of_2(H) == H and H >= 16 else f"a head width of {H}"


def decode_by_products(branch: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """Return out_BKGCH, lse_BKGC of a single piece."""
    x_BKGTS, visible = attention_scores(branch)
    top_BKGT = x_BKGTS.max(-1)
    weight_BKGTS = jnp.where(visible, jnp.exp(x_BKGTS - top_BKGT[..., None]), 0.0)
    total_BKGT = weight_BKGTS.sum(-1)
    divisor_BKGT = jnp.maximum(total_BKGT, 1e-30)
    out = jnp.moveaxis(weighted_values(weight_BKGTS, branch), 1, 3) / divisor_BKGT[..., None]
    return out, jnp.where(total_BKGT > 0, top_BKGT + jnp.log(divisor_BKGT), MASK_VALUE)


def decode_by_kernel(config: TritonDecode, branch: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """Return out_BKGCH, lse_BKGC (float32, MASK_VALUE of an empty piece)."""
    assert branch.stacked_cache is not None
    (B, _, N, H), (S, K) = branch.q_BTNH.shape, branch.k_BSKH.shape[1:3]
    G, C = N // K, max(1, min(PROGRAMS // (B * K), S // config.block))
    P = max(16, pl.next_power_of_2(G))
    q_BKPH = jnp.pad(branch.q_BTNH.reshape(B, K, G, H), [(0, 0), (0, 0), (0, P - G), (0, 0)])
    lo_BKP, hi_BKP = (by_group(x[:, 0], K, G, P) for x in (branch.lo_BTM, branch.hi_BTM))
    group = pl.BlockSpec((None, None, P), lambda b, k, c: (b, k, 0))
    stacked, layers = branch.stacked_cache, branch.stacked_cache.index_LBS.shape[0]
    keys = pl.BlockSpec((layers, None, S, None, H), lambda b, k, c: (0, b, 0, k, 0))
    out_BKCPH, lse_BKCP = pl.pallas_call(
        partial(decode_kernel, block=config.block, pieces=C, group=G),
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
        interpret=config.interpret,
        name="decode",
    )(
        live_tiles(branch, stacked, config.block),
        q_BKPH,
        lo_BKP,
        hi_BKP,
        stacked.index_LBS,
        stacked.k_LBSKH,
        stacked.v_LBSKH,
    )
    return jnp.swapaxes(out_BKCPH, 2, 3)[:, :, :G], jnp.swapaxes(lse_BKCP, 2, 3)[:, :, :G]


def by_group(x_BM: jax.Array, K: int, G: int, P: int) -> jax.Array:
    """Return x_BKP of each query of a group; 0 for padding."""
    x_BN = jnp.broadcast_to(x_BM, (x_BM.shape[0], K * G))
    return jnp.pad(x_BN.reshape(-1, K, G), [(0, 0), (0, 0), (0, P - G)])


def live_tiles(branch: BranchInputs, stacked: StackedCache, block: int) -> jax.Array:
    """Return [B, 3] of each row: the layer, the first tile of keys that may be seen, and the end of these tiles.

    As token j lies in slot j mod S, no slot from the interval's end on is seen, and none before its beginning unless
    slots have been overwritten.
    """
    S = branch.k_BSKH.shape[1]
    lowest_B, highest_B = branch.lo_BTM.min((1, 2)) - stacked.offset, branch.hi_BTM.max((1, 2)) - stacked.offset
    first_B = jnp.where(highest_B <= S, jnp.maximum(lowest_B, 0) // block, 0)
    last_B = -(-jnp.clip(highest_B, 0, S) // block)
    return jnp.stack([jnp.full_like(first_B, stacked.layer), first_B, last_B], axis=1)


def decode_kernel(tiles_ref, q_ref, lo_ref, hi_ref, index_ref, k_ref, v_ref, out_ref, lse_ref, *, block, pieces, group):
    """Output of one piece of the keys of one row and key head: the online softmax over its tiles."""
    q_PH, lo_P, hi_P = q_ref[...], lo_ref[...], hi_ref[...]
    P, H = q_PH.shape
    layer, first, last = (tiles_ref[i] for i in range(3))
    share = (last - first + pieces - 1) // pieces
    start_tile = first + pl.program_id(2) * share

    def add(tile, carry):
        out_PH, total_P, top_P = carry
        slot = tile * block
        start = jnp.minimum(slot, k_ref.shape[1] - block)  # the last tile starts earlier; its repeated slots are masked
        at = (layer, pl.ds(start, block))
        index_S = jnp.where(start + jnp.arange(block) >= slot, index_ref[at], -1)
        x_PS = dot(q_PH, k_ref[at].T) * H**-0.5
        visible_PS = (lo_P[:, None] <= index_S[None, :]) & (index_S[None, :] < hi_P[:, None])
        new_P = jnp.maximum(top_P, jnp.where(visible_PS, x_PS, MASK_VALUE).max(1))
        weight_PS = jnp.where(visible_PS, jnp.exp(x_PS - new_P[:, None]), 0.0)
        decay_P, v_SH = jnp.exp(top_P - new_P), v_ref[at]
        out_PH = out_PH * decay_P[:, None] + dot(weight_PS.astype(v_SH.dtype), v_SH)
        return out_PH, total_P * decay_P + weight_PS.sum(1), new_P

    zero_P = jnp.zeros(P, jnp.float32)
    sums = (jnp.zeros((P, H), jnp.float32), zero_P, zero_P + MASK_VALUE)
    out_PH, total_P, top_P = jax.lax.fori_loop(start_tile, jnp.minimum(start_tile + share, last), add, sums)
    divisor_P, is_query_P = jnp.maximum(total_P, 1e-30), jnp.arange(P) < group
    plgpu.store(out_ref, out_PH / divisor_P[:, None], mask=jnp.broadcast_to(is_query_P[:, None], (P, H)))
    plgpu.store(lse_ref, jnp.where(total_P > 0, top_P + jnp.log(divisor_P), MASK_VALUE), mask=is_query_P)
