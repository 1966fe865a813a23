"""The softmax over any union of intervals on NVIDIA GPUs, in Pallas: flash attention (Dao et al., arXiv:2205.14135).

Same numbers as `core.Dense`. Intervals are data, so the work is that of the intervals whatever they are; cuDNN is
faster where it supports the pattern. Each branch is one call; branches are merged by their log-sum-exp, and the
backward pass takes the merged output and log-sum-exp. Needs an Ampere GPU or newer. jax has announced the end of
Pallas' lowering to Triton: no file but triton*.py depends on it. Letters as in core.py.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from longjax.attention.core import MASK_VALUE, BranchInputs, Qkv, join_qkv, merge_by_lse, split_qkv
from longjax.attention.kernels.triton_backward import key_gradients, query_gradients
from longjax.attention.kernels.triton_tiles import (
    LOG2E,
    Tile,
    biased_scores,
    dot,
    live_tile_pairs,
    load_columns,
    load_rows,
    loop_over_tiles,
    pad_inputs,
    plgpu,
    query_grid,
    softmax_weights,
    tile_ranges,
    visible_pairs,
)


@dataclasses.dataclass(frozen=True)
class Triton:
    """The softmax by three kernels, each with its tile: the output, the gradient of queries, that of keys and values.

    The defaults are the best of 28 on an H200 (16K tokens, 32 heads of 128, bfloat16): about 480 TFLOP/s over seen
    pairs, 430 with the backward pass, of causal rows; 440 and 400 of windows of 4096; 350 and 320 of eight documents.
    """

    out: Tile = Tile(128, 64, 8, 3)
    d_queries: Tile = Tile(128, 64, 8, 3)
    d_keys: Tile = Tile(64, 64, 4, 2)
    interpret: bool = False

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        return triton_attention(self, *split_qkv(branches))


def unsupported_reason() -> str | None:
    """Return why these kernels cannot run on this machine's first device; None if they can."""
    device = jax.devices()[0]
    if plgpu is None:
        return f"jax {jax.__version__} has no Pallas for Triton"
    if device.platform != "gpu" or "NVIDIA" not in device.device_kind:
        return f"the Triton kernels need an NVIDIA GPU, and this is {device.device_kind}"
    if float(device.compute_capability) < 8:
        return f"the Triton kernels need an Ampere GPU or newer, and this is {device.device_kind}"
    return None


def triton_forward(config: Triton, branches: tuple[BranchInputs, ...]) -> tuple[jax.Array, jax.Array]:
    """Return out_BTNH and lse_BNT (float32), the log of each row's summed weights; -MASK_VALUE of an empty row."""
    outs, lses = zip(*(forward_branch(config, branch) for branch in branches), strict=True)
    out_BTNH, lse_BNT = merge_by_lse(outs, lses)
    return out_BTNH, jnp.where(lse_BNT > MASK_VALUE / 2, lse_BNT, -MASK_VALUE)


def forward_branch(config: Triton, branch: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """Return out_BTNH, lse_BNT of one branch (float32, MASK_VALUE of an empty row)."""
    tile = config.out.fit(branch)
    padded = pad_inputs(branch, tile)
    specs = query_grid(padded, tile)
    (B, T, N, _), shape = padded.q.shape, branch.q_BTNH.shape
    out, lse_BNT = pl.pallas_call(
        partial(out_kernel, tile=tile, scale=shape[-1] ** -0.5, mask=branch.mask, interpret=config.interpret),
        grid=specs.grid,
        in_specs=[specs.ranges, specs.padded],
        out_specs=(specs.vectors, specs.numbers),
        out_shape=(jax.ShapeDtypeStruct(padded.q.shape, padded.q.dtype), jax.ShapeDtypeStruct((B, N, T), jnp.float32)),
        compiler_params=tile.params(),
        interpret=config.interpret,
        name="attention",
    )(tile_ranges(*live_tile_pairs(padded, tile, branch.mask)), padded)
    return out[:, : shape[1], :, : shape[3]], lse_BNT[:, :, : shape[1]]


def out_kernel(ranges_ref, padded, out_ref, lse_ref, *, tile, scale, mask, interpret):
    """Output of one tile of queries of one head: the online softmax over the tiles of keys that they see."""
    q_TH, queries = padded.q[...], load_columns(padded.queries)
    slope = None if padded.slopes is None else padded.slopes[0] / scale

    def add(c, carry, masked):
        out_TH, total_T, top_T = carry
        at = pl.ds(c * tile.block_s, tile.block_s)
        keys = load_rows(padded.keys, at)
        x_TS = biased_scores(dot(q_TH, padded.k[at].T), queries, keys, slope)
        if masked:
            x_TS = jnp.where(visible_pairs(queries, keys, mask), x_TS, -jnp.inf)
        new_T = jnp.maximum(top_T, x_TS.max(1))
        base_T = jnp.where(new_T == -jnp.inf, 0.0, new_T) if masked else new_T  # rows that have seen nothing yet
        weight_TS = softmax_weights(x_TS, scale * LOG2E, (base_T * (scale * LOG2E))[:, None], interpret)
        decay_T = jnp.exp2((top_T - base_T) * (scale * LOG2E))
        v_SH = padded.v[at]
        out_TH = out_TH * decay_T[:, None] + dot(weight_TS.astype(v_SH.dtype), v_SH)
        return out_TH, total_T * decay_T + weight_TS.sum(1), new_T

    zero_T = jnp.zeros(tile.block_t, jnp.float32)
    out_TH, total_T, top_T = loop_over_tiles(
        ranges_ref, 0, add, (jnp.zeros(q_TH.shape, jnp.float32), zero_T, zero_T - jnp.inf)
    )
    not_empty_T = total_T > 0
    divisor_T = jnp.where(not_empty_T, total_T, 1.0)
    out_ref[...] = (out_TH / divisor_T[:, None]).astype(out_ref.dtype)
    lse_ref[...] = jnp.where(not_empty_T, top_T * scale + jnp.log(divisor_T), MASK_VALUE)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def triton_attention(config: Triton, arrays: tuple[Qkv, ...], rest: tuple[BranchInputs, ...]) -> jax.Array:
    """Return out_BTNH; see `split_qkv` for the arguments."""
    return triton_forward(config, join_qkv(arrays, rest))[0]


def _attention_forward(config, arrays, rest):
    out_BTNH, lse_BNT = triton_forward(config, join_qkv(arrays, rest))
    out_BTNH, lse_BNT = checkpoint_name(out_BTNH, "attn_out"), checkpoint_name(lse_BNT, "attn_lse")
    return out_BTNH, (arrays, rest, out_BTNH, lse_BNT)


def _attention_backward(config, saved, d_out_BTNH):
    arrays, rest, out_BTNH, lse_BNT = saved
    delta_BTN = (d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32)).sum(-1)
    of_rows = (d_out_BTNH.astype(out_BTNH.dtype), lse_BNT * LOG2E, delta_BTN.swapaxes(1, 2))

    def gradients(branch):
        dq = query_gradients(branch, *of_rows, config.d_queries, config.interpret)
        return dq, *key_gradients(branch, *of_rows, config.d_keys, config.interpret)

    return tuple(map(gradients, join_qkv(arrays, rest))), None


triton_attention.defvjp(_attention_forward, _attention_backward)
