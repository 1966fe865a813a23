"""The softmax over any union of intervals on NVIDIA GPUs, in Pallas: flash attention (Dao et al., arXiv:2205.14135).

Same numbers as `attention.Dense`. Intervals are data, so the work is that of the intervals whatever they are; cuDNN is
faster where it knows the pattern. Each part is one call; parts are merged by their log-sum-exp, and the backward pass
takes the merged output and log-sum-exp. Needs an Ampere GPU or newer. Pallas announces that its lowering to Triton
will go: nothing outside the files triton*.py knows of it. Letters as in attention.py.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from longjax.attention.core import MASK_VALUE, BranchInputs, merge_by_lse
from longjax.attention.kernels.triton_backward import d_keys, d_queries
from longjax.attention.kernels.triton_tiles import (
    LOG2E,
    Tile,
    by_queries,
    columns,
    dot,
    live_tile_pairs,
    loop_over_tiles,
    pad_inputs,
    plgpu,
    rows,
    scaled_score,
    softmax_weights,
    tile_ranges,
    visible_pairs,
)


@dataclasses.dataclass(frozen=True)
class Triton:
    """Tiles of the three kernels: the output, the gradient of queries, that of keys and values.

    The defaults are the best of 28 on an H200 (16K tokens, 32 heads of 128, bfloat16): about 480 TFLOP/s over seen
    pairs, 430 with the backward pass, of causal rows; 440 and 400 of windows of 4096; 350 and 320 of eight documents.
    """

    out: Tile = Tile(128, 64, 8, 3)
    d_queries: Tile = Tile(128, 64, 8, 3)
    d_keys: Tile = Tile(64, 64, 4, 2)
    interpret: bool = False

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array:
        arrays = tuple((p.q_BTNH, p.k_BSKH, p.v_BSKH) for p in parts)
        rest = tuple(p.replace(q_BTNH=None, k_BSKH=None, v_BSKH=None) for p in parts)
        return triton_attention(self, arrays, rest)


def unsupported_reason() -> str | None:
    """Why these kernels cannot run on this machine's first device, None if they can."""
    device = jax.devices()[0]
    if plgpu is None:
        return f"jax {jax.__version__} has no Pallas for Triton"
    if device.platform != "gpu" or "NVIDIA" not in device.device_kind:
        return f"the Triton kernels need an NVIDIA GPU, and this is {device.device_kind}"
    if float(device.compute_capability) < 8:
        return f"the Triton kernels need an Ampere GPU or newer, and this is {device.device_kind}"
    return None


def whole_inputs(arrays: tuple, rest: tuple[BranchInputs, ...]) -> list[BranchInputs]:
    return [p.replace(q_BTNH=q, k_BSKH=k, v_BSKH=v) for p, (q, k, v) in zip(rest, arrays, strict=True)]


def triton_forward(how: Triton, arrays: tuple, rest: tuple[BranchInputs, ...]) -> tuple[jax.Array, jax.Array]:
    """-> out_BTNH, lse_BNT (float32): the log of each row's summed weights; of an empty row 1e30, weights 0."""
    outs, lses = zip(*(forward_part(how, part) for part in whole_inputs(arrays, rest)), strict=True)
    out_BTNH, lse_BNT = merge_by_lse(outs, lses)
    return out_BTNH, jnp.where(lse_BNT > MASK_VALUE / 2, lse_BNT, -MASK_VALUE)


def forward_part(how: Triton, part: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """-> out_BTNH, lse_BNT (float32, NEVER of an empty row)."""
    tile = how.out.fitted(part)
    laid = pad_inputs(part, tile)
    specs = by_queries(laid, tile)
    (B, T, N, _), shape = laid.q.shape, part.q_BTNH.shape
    out, lse_BNT = pl.pallas_call(
        partial(out_kernel, tile=tile, scale=shape[-1] ** -0.5, mask=part.mask, interpret=how.interpret),
        grid=specs.grid,
        in_specs=[specs.ranges, specs.laid],
        out_specs=(specs.vectors, specs.numbers),
        out_shape=(jax.ShapeDtypeStruct(laid.q.shape, laid.q.dtype), jax.ShapeDtypeStruct((B, N, T), jnp.float32)),
        compiler_params=tile.params(),
        interpret=how.interpret,
        name="attention",
    )(tile_ranges(*live_tile_pairs(laid, tile, part.mask)), laid)
    return out[:, : shape[1], :, : shape[3]], lse_BNT[:, :, : shape[1]]


def out_kernel(ranges_ref, laid, out_ref, lse_ref, *, tile, scale, mask, interpret):
    """One tile of queries of one head: the online softmax over the tiles of keys that they see."""
    q_TH, asks = laid.q[...], columns(laid.queries)
    slope = None if laid.slopes is None else laid.slopes[0] / scale

    def join(c, carry, masked):
        out_TH, total_T, top_T = carry
        at = pl.ds(c * tile.block_s, tile.block_s)
        gives = rows(laid.keys, at)
        x_TS = scaled_score(dot(q_TH, laid.k[at].T), asks, gives, slope)
        if masked:
            x_TS = jnp.where(visible_pairs(asks, gives, mask), x_TS, -jnp.inf)
        new_T = jnp.maximum(top_T, x_TS.max(1))
        base_T = jnp.where(new_T == -jnp.inf, 0.0, new_T) if masked else new_T  # rows that have seen nothing yet
        weight_TS = softmax_weights(x_TS, scale * LOG2E, (base_T * (scale * LOG2E))[:, None], interpret)
        decay_T = jnp.exp2((top_T - base_T) * (scale * LOG2E))
        v_SH = laid.v[at]
        out_TH = out_TH * decay_T[:, None] + dot(weight_TS.astype(v_SH.dtype), v_SH)
        return out_TH, total_T * decay_T + weight_TS.sum(1), new_T

    zero_T = jnp.zeros(tile.block_t, jnp.float32)
    out_TH, total_T, top_T = loop_over_tiles(
        ranges_ref, 0, join, (jnp.zeros(q_TH.shape, jnp.float32), zero_T, zero_T - jnp.inf)
    )
    some_T = total_T > 0
    divisor_T = jnp.where(some_T, total_T, 1.0)
    out_ref[...] = (out_TH / divisor_T[:, None]).astype(out_ref.dtype)
    lse_ref[...] = jnp.where(some_T, top_T * scale + jnp.log(divisor_T), MASK_VALUE)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def triton_attention(how: Triton, arrays: tuple, rest: tuple[BranchInputs, ...]) -> jax.Array:
    return triton_forward(how, arrays, rest)[0]


def triton_attention_forward(how, arrays, rest):
    out_BTNH, lse_BNT = triton_forward(how, arrays, rest)
    out_BTNH, lse_BNT = checkpoint_name(out_BTNH, "attn_out"), checkpoint_name(lse_BNT, "attn_lse")
    return out_BTNH, (arrays, rest, out_BTNH, lse_BNT)


def triton_attention_backward(how, saved, d_out_BTNH):
    arrays, rest, out_BTNH, lse_BNT = saved
    delta_BTN = (d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32)).sum(-1)
    given = (d_out_BTNH.astype(out_BTNH.dtype), lse_BNT * LOG2E, delta_BTN.swapaxes(1, 2))
    gradients = (
        (d_queries(part, *given, how.d_queries, how.interpret), *d_keys(part, *given, how.d_keys, how.interpret))
        for part in whole_inputs(arrays, rest)
    )
    return tuple(gradients), None


triton_attention.defvjp(triton_attention_forward, triton_attention_backward)
