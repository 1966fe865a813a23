"""Laws of attention made of branches, on three rows of 64 random tokens.

Tolerance 5e-6: the same float32 sums in another order, on scores up to about 20 and outputs up to about 3.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.branched import BranchedAttention
from longjax.attention.core import AttentionMetadata, TokenPositions
from longjax.config import ModelConfig
from longjax.methods.alibi import alibi
from longjax.methods.dca import dca
from longjax.methods.lm_infinite import lm_infinite
from longjax.methods.longlora import longlora, longlora_sft
from longjax.methods.method import base, compose
from longjax.methods.pi import pi
from longjax.methods.rerope import leaky_rerope, rerope
from longjax.methods.self_extend import self_extend, self_extend_auto
from longjax.methods.self_extend_octaves import self_extend_octaves
from longjax.methods.sliding_window import sliding_window
from longjax.methods.streaming_llm import evict, streaming_llm
from longjax.methods.yarn import yarn

B, T, N, K, H = 3, 64, 4, 2, 16
CFG = ModelConfig(dim=N * H, heads=N, kv_heads=K, trained_len=32, dtype="float32")
RNG = np.random.default_rng(0)
Q, KEYS, V = (RNG.standard_normal((B, T, n, H), dtype=np.float32) for n in (N, K, K))
INDEX = np.broadcast_to(np.arange(T, dtype=np.int32), (B, T))
NONE = np.zeros((B, T), np.int32)
same = partial(np.testing.assert_allclose, atol=5e-6, rtol=0)

METHODS = {
    "sliding_window": sliding_window(16),
    "lm_infinite": lm_infinite(16, 4),
    "streaming_llm": streaming_llm(4, 11),
    "self_extend, true division, log": self_extend(18, 4, 32.0, "true_division"),
    "rerope": rerope(16, log_n=True),
    "leaky_rerope": leaky_rerope(16, 4.0),
    "self_extend_octaves": self_extend_octaves(8),
    "yarn x dca": compose(yarn(4.0), dca()),
    "yarn x self_extend": compose(yarn(4.0), self_extend_auto(8, 1.0)),
    "alibi x lm_infinite": compose(alibi(), lm_infinite(16, 4)),
    "yarn x longlora": compose(yarn(4.0), longlora(groups=4)),
    "longlora_sft": longlora_sft(factor=1.0, group=24),
}


def attention(method, length=T):
    return (method.attention_train or method.attention)(CFG, length)


@partial(jax.jit, static_argnames="method")
def attend(method, q, k, v, index, start, real, cache=None):
    """Of `method` in training, where that differs."""
    where = TokenPositions.at(index, start, real)
    metadata = AttentionMetadata(where, where, method.rope(CFG, T, {}, None), jnp.arange(N))
    return attention(method)(q, k, v, metadata, cache)


def one_pass(method, q=Q, k=KEYS, v=V, start=NONE, real=NONE == 0):
    return np.asarray(attend(method, q, k, v, INDEX, start, real)[0])


def at(x, index):
    return np.take_along_axis(x, index[:, :, None, None], axis=1)


def step(method, index, real, cache):
    out, cache = attend(method, *(at(x, index) for x in (Q, KEYS, V)), index, np.zeros_like(index), real, cache)
    return np.asarray(out), cache


# Laws


@pytest.mark.parametrize("name", METHODS)
def test_any_cut_of_any_row_is_one_pass(name):
    """Each call brings each row a random number of new tokens, the rest of the call is padding."""
    method, rng = METHODS[name], np.random.default_rng(1)
    want, cache = one_pass(method), attention(METHODS[name]).init_cache(CFG, B, T)
    begin = np.zeros(B, np.int32)
    while (begin < T).any():
        size = rng.choice([1, 8])
        new = np.minimum(rng.integers(0, size + 1, B), T - begin)
        index = np.minimum(begin[:, None] + np.arange(size), T - 1).astype(np.int32)
        real = np.arange(size) < new[:, None]
        out, cache = step(method, index, real, cache)
        same(out[real], at(want, index)[real])
        begin += new.astype(np.int32)


@pytest.mark.parametrize("name", METHODS)
def test_packed_documents_equal_each_alone(name):
    method, ends = METHODS[name], [[10, 40, 64], [64], [33, 64]]
    start = np.stack([np.repeat([0, *row[:-1]], np.diff([0, *row])) for row in ends]).astype(np.int32)
    packed = one_pass(method, start=start)
    for row in range(B):
        for begin, end in zip([0, *ends[row][:-1]], ends[row], strict=True):
            shifted = [np.roll(x, -begin, axis=1) for x in (Q, KEYS, V)]  # the rest of the row is padding
            alone = one_pass(method, *shifted, real=end - begin > INDEX)
            same(packed[row, begin:end], alone[row, : end - begin])


def test_a_rolled_group_leaks_the_future():
    """The documented exception to causality: up to query 5, shifted heads see the last half group."""
    method = longlora(groups=4, shift="s2_wrap")

    def total(v):
        return jnp.sum(attend(method, Q, KEYS, v, INDEX, NONE, NONE == 0)[0][:, :6])

    gradient = np.asarray(jax.grad(total)(V))
    assert (gradient[:, 56:] != 0).any()
    assert (gradient[:, 8:56] == 0).all()


@pytest.mark.parametrize(
    ("method", "slots"),
    [
        (base(), [512]),
        (sliding_window(16), [16]),
        (lm_infinite(16, 4), [4, 16]),
        (streaming_llm(4, 11), [4, 12]),
        (self_extend(16, 4), [16, 512]),
        (rerope(16), [16, 512]),
        (self_extend_octaves(64), [64, 128, 256, 512]),
        (dca(20, 4), [512]),
        (longlora(), [512]),
    ],
)
def test_memory_holds_no_more_than_is_seen(method, slots):
    """Slots of each store, of rows of 512 tokens; what grows with the row is kept once."""
    cache = jax.eval_shape(lambda: method.attention(CFG, 512).init_cache(CFG, 1, 512))
    assert sorted(store.k_BWKH.shape[1] for store in cache.values()) == slots


FULL = base()


@pytest.mark.parametrize(
    ("method", "other", "rows"),
    [
        (lm_infinite(64, 4), FULL, T),
        (lm_infinite(16, 4), FULL, 16),
        (lm_infinite(16, 0), sliding_window(16), T),
        (streaming_llm(0, 15), sliding_window(16), T),
        (self_extend(64, 8), FULL, T),
        (self_extend(16, 4), FULL, 16),
        (self_extend(16, 1), FULL, T),
        (rerope(16), FULL, 16),
        (leaky_rerope(16, 1.0), FULL, T),
        (self_extend_octaves(64), FULL, T),
        (self_extend_octaves(16), FULL, 16),
        (dca(80, 16), FULL, T),
        (dca(20, 4), FULL, 16),
        (longlora(1.0, groups=1, shift="noshift"), FULL, T),
        (longlora(1.0, groups=2), FULL, 16),
        (longlora_sft(4.0, group=16), longlora(4.0, groups=4), T),
    ],
)
def test_limits(method, other, rows):
    """Within a window, with a group of one, without first tokens: methods become each other."""
    a, b = one_pass(method)[:, :rows], one_pass(other)[:, :rows]
    np.testing.assert_allclose(a, b, atol=1e-5)  # places differ by a constant, so angles up to 64 round differently
    if rows < T:
        assert np.abs(one_pass(method) - one_pass(other)).max() > 0.1


def test_lm_infinite_is_rerope_on_fewer_keys():
    """Where both see the same keys, i < window + first, their scores agree."""
    a, b = one_pass(lm_infinite(16, 4)), one_pass(rerope(16))
    np.testing.assert_allclose(a[:, :20], b[:, :20], atol=1e-5)
    assert np.abs(a[:, 20] - b[:, 20]).max() > 1e-2


def test_longlora_attends_to_all_at_inference():
    assert longlora().attention(CFG, T) == BranchedAttention()
    assert longlora().rope == pi(8.0).rope


def test_composition_keeps_both_halves():
    both = compose(pi(4.0), longlora(factor=8.0))
    assert both.rope == pi(4.0).rope
    assert dataclasses.replace(both, rope=longlora().rope, init_params=longlora().init_params) == longlora()


# StreamingLLM in turns


def attention_by_slots(q_NH, kept, query_slot, keys, values):
    """One query over the kept tokens, each rotated to its slot: the peer's cache, written plainly."""
    freq = CFG.rope_base ** (-np.arange(0, H, 2) / H)

    def turn(x, slot):
        cos, sin, (a, b) = np.cos(slot * freq), np.sin(slot * freq), np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    out = []
    for head in range(N):
        kv = head // (N // K)
        scores = [turn(q_NH[head], query_slot) @ turn(keys[j, kv], s) / H**0.5 for s, j in enumerate(kept)]
        weights = np.exp(scores - np.max(scores))
        out.append(weights / weights.sum() @ values[kept, kv])
    return np.stack(out)


def test_turns_are_dense_in_a_bounded_cache():
    """Three rows of unequal turns; the cache is a ring of 16 slots, rows grow to 36, 31 and 23 tokens."""
    sinks, recent, turns = 4, 12, np.array([[12, 12, 12], [9, 11, 11], [5, 7, 11]])
    method, rope = sliding_window(sinks + recent), FULL.rope(CFG, T, {}, None)
    (name, store) = next(iter(attention(method).init_cache(CFG, B, T).items()))
    kept, begin = [[], [], []], np.zeros(B, np.int32)
    for turn in turns.T:
        coming = int(turn.max())  # one number for the batch
        store = evict(store, coming, sinks, recent, rope)
        for row in kept:
            gone = min(max(len(row) + coming - sinks - recent, 0), max(len(row) - sinks, 0))
            del row[sinks : sinks + gone]
        for n in range(coming):
            real = n < turn
            index = (begin + np.minimum(n, turn)).astype(np.int32)[:, None]
            out, cache = step(method, index, real[:, None], {name: store})
            store = cache[name]
            for b in np.flatnonzero(real):
                kept[b].append(int(index[b, 0]))
                slot, t = len(kept[b]) - 1, index[b, 0]
                want = attention_by_slots(Q[b, t].astype(float), kept[b], slot, KEYS[b], V[b])
                np.testing.assert_allclose(out[b, 0], want, atol=1e-5)  # keys were turned twice in float32
        begin += turn.astype(np.int32)
    assert store.k_BWKH.shape[1] == 16
    assert kept[0] != list(range(36)), "something was evicted"


def test_plain_attention_written_out():
    """What the limits compare with."""
    got, t = one_pass(FULL), 20
    want = attention_by_slots(Q[1, t].astype(float), list(range(t + 1)), t, KEYS[1], V[1])
    np.testing.assert_allclose(got[1, t], want, atol=1e-5)
