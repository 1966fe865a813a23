"""Operations of training, held against the model's own masks and against numbers by hand."""

import dataclasses
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch
from longjax.attention.core import AttentionMetadata, TokenPositions, visible_mask
from longjax.attention.intervals import Chunk
from longjax.attention.rope import Rope
from longjax.config import LLAMA2_7B, TINY
from longjax.methods import METHODS, Method
from longjax.model.llama import Llama
from longjax.training import flops
from small import ALL, SMALL, T

CFG = dataclasses.replace(TINY, vocab=96)
TRAINED = Method()
LONG = 524_288


def keys(method, length, train=True, cfg=CFG):
    return flops.visible_keys(Llama(cfg, method, train=train).attention(length), cfg.heads, length)


def by_mask(attention):
    """The mean number of visible keys, by the mask that the dense back end makes."""
    seen = []

    def look(parts):
        seen.extend(visible_mask(part, CFG.kv_heads, CFG.heads // CFG.kv_heads) for part in parts)
        return parts[0].q_BTNH

    where = TokenPositions.whole(1, T)
    rope = Rope(jnp.ones(CFG.rotary_dim // 2))
    metadata = AttentionMetadata(where, where, rope, jnp.arange(CFG.heads), backend=look)
    k_BSKH = jnp.zeros((1, T, CFG.kv_heads, CFG.head_dim))
    attention(jnp.zeros((1, T, CFG.heads, CFG.head_dim)), k_BSKH, k_BSKH, metadata)
    whole = [np.broadcast_to(x, (1, CFG.kv_heads, CFG.heads // CFG.kv_heads, T, T)) for x in seen]
    assert np.sum(whole, axis=0).max() == 1  # branches do not overlap
    return np.any(whole, axis=0).sum(-1).mean()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("train", [False, True])
def test_visible_keys_are_those_of_the_mask(name, train):
    attention = Llama(CFG, ALL[name], train=train).attention(T)
    if isinstance(attention, BranchedAttention):
        assert keys(ALL[name], T, train) == pytest.approx(by_mask(attention), rel=1e-12)
    else:
        assert name in ("landmark", "lm_infinite_topk")
        assert keys(ALL[name], T, train) == (T + 1) / 2


def test_visible_keys_by_hand():
    assert keys(TRAINED, T) == (T + 1) / 2
    window = 16
    assert keys(SMALL["sliding_window"], T) == (window * (window + 1) / 2 + (T - window) * window) / T
    group = T // 4  # half of the heads: four groups; the others: three, and two halves
    plain, shifted = (group + 1) / 2, (3 * (group + 1) / 2 + (group / 2 + 1) / 2) / 4
    assert keys(SMALL["longlora"], T) == (plain + shifted) / 2


@pytest.mark.parametrize("name", ["pi", "longlora", "dca", "self_extend", "lm_infinite", "streaming_llm"])
def test_long_rows_are_sampled(name):
    """Half a million tokens: the mean over 4099 queries is within 0.1 % of that over all."""
    method = METHODS[name]()
    attention = Llama(LLAMA2_7B, method, train=True).attention(LONG)
    began = time.perf_counter()
    sampled = flops.visible_keys(attention, 2, LONG)
    assert time.perf_counter() - began < 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flops, "QUERIES", LONG)
        assert sampled == pytest.approx(flops.visible_keys(attention, 2, LONG), rel=1e-3)


def test_sampling_is_not_in_step_with_chunks():
    for size in (64, 100, 128, 256):
        attention = BranchedAttention((Branch(Chunk(size)),))
        assert flops.visible_keys(attention, 2, LONG) == pytest.approx((size + 1) / 2, rel=0.03)


def test_llama2_7b_at_32k():
    """By hand: 6 x 6.61e9 weights, and 3 x 4 x 32 x 4096 x 16384.5 for causal attention, twice that for the square."""
    useful, full = flops.train_flops(LLAMA2_7B, TRAINED, 32_768, 1)
    weights = 32 * (4 * 4096**2 + 3 * 4096 * 11_008) + 4096 * 32_000
    assert useful == pytest.approx(6 * weights + 12 * 32 * 4096 * 16_384.5, rel=1e-6)  # 4099 of the queries
    assert full == pytest.approx(6 * weights + 12 * 32 * 4096 * 32_768, rel=1e-12)
    assert useful == pytest.approx(39.6e9 + 25.8e9, rel=2e-3)


def test_documents_see_only_themselves():
    """Documents of 48 and 16 tokens: sum of n^2 / 2T, and half a key."""
    one = flops.train_flops(CFG, TRAINED, T, T)
    two = flops.train_flops(CFG, TRAINED, T, T, documents=(48, 16))
    pair = 12 * CFG.layers * CFG.heads * CFG.head_dim
    assert one.useful - two.useful == pytest.approx(T * pair * (T / 2 - (48**2 + 16**2) / (2 * T)), rel=1e-12)
    assert one.full == two.full


def test_what_is_frozen_has_no_weight_gradient():
    whole, trained = flops.matmul_weights(CFG, TRAINED)
    assert trained == whole
    lora, adapters = flops.matmul_weights(CFG, SMALL["longlora"])  # embedding and norms are no products
    rank, dim, kv = 8, CFG.dim, CFG.kv_heads * CFG.head_dim
    assert adapters == CFG.layers * rank * (2 * (dim + dim) + 2 * (dim + kv))
    assert lora == whole + adapters


def test_products_are_what_xla_counts():
    """XLA's count of a forward pass has in addition norms, rotation and softmax: a few per cent at this width."""
    cfg = dataclasses.replace(CFG, dim=256, heads=4, kv_heads=4, ffn=1024, layers=1)
    model = Llama(cfg)

    def forward(params, tokens):
        hidden, _ = model.apply({"params": params}, tokens, TokenPositions.whole(1, T), T)
        return hidden @ params["unembed_DV"]

    tokens = jnp.zeros((1, T), jnp.int32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, TokenPositions.whole(1, T), T)["params"])
    counted = jax.jit(forward).lower(params, tokens).compile().cost_analysis()["flops"]
    mine = flops.train_flops(cfg, TRAINED, T, T).full / 3
    assert mine < counted < 1.05 * mine


class Named(NamedTuple):
    device_kind: str


def test_peaks():
    assert flops.peak_flops(Named("NVIDIA H200")) == 989e12
    assert flops.peak_flops(Named("NVIDIA H100 80GB HBM3")) == 989e12
    assert flops.peak_flops(Named("NVIDIA H100 PCIe")) == 756e12
    assert flops.peak_flops(Named("NVIDIA A100-SXM4-40GB")) == 312e12
    assert flops.peak_flops(Named("TPU v5 lite")) == 197e12
    assert flops.peak_flops(Named("TPU v5")) == 459e12
    assert flops.peak_flops(Named("cpu")) is None
    assert flops.peak_flops(jax.devices()[0]) is None
