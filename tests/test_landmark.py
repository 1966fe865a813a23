"""Landmark attention, in training and with memory, and LM-Infinite with middle keys."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.branched import BranchedAttention
from longjax.attention.core import MASK_VALUE, AttentionMetadata, TokenPositions
from longjax.attention.landmark.dense import LandmarkAttention, grouped_softmax
from longjax.attention.landmark.memory import LandmarkMemory, PerChunk, top_blocks
from longjax.attention.rope import inv_freq, rotate
from longjax.checkpoints.resize_vocab import resize_vocab
from longjax.config import TINY
from longjax.methods.landmark import InsertLandmarks, landmark
from longjax.methods.lm_infinite import lm_infinite
from longjax.methods.lm_infinite_topk import TopKMiddleAttention, lm_infinite_topk
from longjax.methods.method import fixed_rope
from longjax.model.llama import Llama, logits

B, T, N, K, H, BLOCK = 2, 45, 4, 2, 16, 8  # 5 blocks and a tail
CFG = dataclasses.replace(TINY, dim=N * H, heads=N, kv_heads=K)
ROPE = fixed_rope(inv_freq(CFG))
ROUNDING = 1e-5  # float32 sums of at most 45 terms of order 1, in different orders


def qkv(seed: int = 0) -> tuple[np.ndarray, ...]:
    """NumPy arrays, as slicing those compiles nothing."""
    rng = np.random.default_rng(seed)
    return tuple(1.5 * rng.standard_normal((B, T, n, H), dtype=np.float32) for n in (N, K, K))


def tokens(a: int = 0, b: int = T) -> TokenPositions:
    """Tokens a .. b - 1 of rows that begin at 0."""
    index_BT = np.broadcast_to(np.arange(a, b, dtype=np.int32), (B, b - a))
    return TokenPositions(index_BT, np.zeros_like(index_BT), index_BT.astype(np.float32), np.ones_like(index_BT, bool))


@functools.partial(jax.jit, static_argnames="attention")
def run(attention, x, queries, keys, cache=None, layer=0):
    return attention(*map(jnp.asarray, x), AttentionMetadata(queries, keys, ROPE, jnp.arange(N), layer), cache)


def whole(attention, x, positions=None, layer=0):
    positions = positions or tokens()
    return run(attention, x, positions, positions, layer=layer)[0]


def in_calls(attention, x, cuts, layer=0):
    """One call after the other, through the cache."""
    cache, outs = attention.init_cache(CFG, B, T), []
    for a, b in itertools.pairwise(cuts):
        positions = tokens(a, b)
        out, cache = run(attention, tuple(y[:, a:b] for y in x), positions, positions, cache, layer)
        outs.append(np.asarray(out))
    return np.concatenate(outs, axis=1)


def scores_of(x, start: jax.Array) -> jax.Array:
    """Scores [B, N, T, S] at true positions."""
    position = jnp.arange(T) - start
    q, k = (rotate(y, jnp.broadcast_to(position, (B, T)), ROPE) for y in x[:2])
    return jnp.einsum("btnh,bsnh->bnts", q, jnp.repeat(k, N // K, axis=2)) * H**-0.5


@jax.jit
def definition(x, start: jax.Array) -> jax.Array:
    """The grouped softmax as the paper writes it, with one-hot matrices in place of blocks. `start`: [T]."""
    e = jnp.exp(scores_of(x, start))
    t, s = np.arange(T)[:, None], np.arange(T)[None]
    section = jax.nn.one_hot(s[0] // BLOCK, -(-T // BLOCK), dtype=jnp.float32)  # [S, M]
    seen, mark = (s <= t) & (s >= start[:, None]), s % BLOCK == BLOCK - 1
    own = seen & ~mark & (t // BLOCK == s // BLOCK)
    past = seen & (s // BLOCK < t // BLOCK)
    past &= (past & ~mark).astype(jnp.float32) @ section @ section.T > 0  # a landmark needs a token behind it
    token = jnp.where(past & ~mark, e, 0.0)
    total = jnp.sum(jnp.where(own | (past & mark), e, 0.0), axis=-1, keepdims=True)
    gate = jnp.where(past & mark, e / total, 0.0) @ section  # [..., T, M]
    share = gate / jnp.where(token @ section > 0, token @ section, 1.0)
    weight = jnp.where(own, e / total, 0.0) + token * (share @ section.T)
    return jnp.einsum("bnts,bsnh->btnh", weight, jnp.repeat(x[2], N // K, axis=2))


def with_memory(x, top_k: int, chunk: int) -> np.ndarray:
    """Landmark memory by plain loops in float64: positions are those of the authors' slots."""
    q, k, v = (np.asarray(y, np.float64) for y in x)
    freq, out = inv_freq(CFG), np.zeros_like(q)

    def dot(q_H, k_H, distance):
        pair = (q_H[: H // 2] + 1j * q_H[H // 2 :]) * np.exp(1j * distance * freq)
        return np.sum((pair * np.conj(k_H[: H // 2] + 1j * k_H[H // 2 :])).real) * H**-0.5

    for b, i, n in np.ndindex(B, T, N):
        key, value, full = k[b, :, n // (N // K)], v[b, :, n // (N // K)], i // (BLOCK * chunk) * chunk
        few = min(top_k, full)
        begin = {m: max(m, full - few - 1) * BLOCK for m in range(full)}  # where block m stands
        score = {m: dot(q[b, i, n], key[m * BLOCK + BLOCK - 1], i - begin[m] - BLOCK + 1) for m in range(full)}
        opened = sorted(sorted(score, key=lambda m: -score[m])[:few])
        begin = {m: (full - few - 1 + r + (m >= full - few)) * BLOCK for r, m in enumerate(opened)}
        begin |= {m: m * BLOCK for m in range(full, i // BLOCK + 1)}
        logit, mean = [], []
        for m, at in begin.items():
            last = i if m == i // BLOCK else m * BLOCK + BLOCK - 1
            js = [j for j in range(m * BLOCK, last + 1) if j % BLOCK < BLOCK - 1]
            e = np.exp([dot(q[b, i, n], key[j], i - at - j % BLOCK) for j in js])
            gate = dot(q[b, i, n], key[last], i - at - BLOCK + 1) if m < i // BLOCK else np.log(e.sum())
            logit.append(gate)
            mean.append(e @ value[js] / e.sum())
        weight = np.exp(np.array(logit) - max(logit))
        out[b, i, n] = weight @ np.array(mean) / weight.sum()
    return out


# Training


@pytest.mark.parametrize("document", [0, 13, 15, 16])
def test_training_attention_and_gradients_are_the_definition(document):
    """A second document begins nowhere, in a block, at a landmark, or after one."""
    start = jnp.where(jnp.arange(T) < document, 0, document)
    positions = TokenPositions.at(jnp.broadcast_to(jnp.arange(T), (B, T)), jnp.broadcast_to(start, (B, T)))
    x, cotangent = qkv(), qkv(9)[0]
    ours, pull = jax.vjp(lambda *x: whole(LandmarkAttention(BLOCK), x, positions), *x)
    theirs, pull_theirs = jax.vjp(lambda *x: jnp.nan_to_num(definition(x, start)), *x)
    alone = np.arange(T) == document if document == 15 else np.zeros(T, bool)  # a first token that is a landmark
    np.testing.assert_allclose(ours[:, ~alone], theirs[:, ~alone], atol=ROUNDING)
    assert not jnp.any(ours[:, alone])
    if not alone.any():
        for d, d_theirs in zip(pull(cotangent), pull_theirs(cotangent), strict=True):
            np.testing.assert_allclose(d, d_theirs, atol=5 * ROUNDING)  # sums over queries and heads
    assert all(np.isfinite(d).all() for d in pull(cotangent))


def test_weights_sum_to_one_wherever_something_is_seen():
    x = jax.random.normal(jax.random.key(1), (200, 5, BLOCK)) * 4
    seen = jax.random.bernoulli(jax.random.key(2), 0.3, x.shape)
    own = jnp.arange(5) == jax.random.randint(jax.random.key(3), (200, 1), 0, 5)
    weight = grouped_softmax(x, seen, own)
    token = seen.at[..., -1].set(False).any(-1)
    anything = (token & (own | seen[..., -1])).any(-1)
    assert 0 < anything.sum() < 200
    np.testing.assert_allclose(weight.sum((1, 2)), anything.astype(jnp.float32), atol=1e-6)
    assert not weight[..., -1].any()
    assert not weight[~seen].any()


def test_without_a_landmark_it_is_full_attention():
    x = qkv()
    full = whole(BranchedAttention(), x)
    np.testing.assert_allclose(whole(LandmarkAttention(T + 1), x), full, atol=ROUNDING)
    np.testing.assert_allclose(whole(LandmarkMemory(T + 1, 2), x), full, atol=ROUNDING)


@pytest.mark.parametrize("attention", [LandmarkAttention(BLOCK), LandmarkMemory(BLOCK, 2, chunk=2)])
def test_the_future_and_landmark_values_have_no_gradient(attention):
    x, t = qkv(), 29
    _, dk, dv = jax.grad(lambda x: jnp.sum(whole(attention, x)[:, t] ** 2))(x)
    assert not dk[:, t + 1 :].any()
    assert not dv[:, t + 1 :].any()
    assert not dv[:, BLOCK - 1 :: BLOCK].any()
    assert jnp.abs(dk[:, BLOCK - 1 : t : BLOCK]).max() > 1e-3  # gates do learn
    assert jnp.abs(dv[:, t]).min() > 0


@pytest.mark.parametrize("attention", [LandmarkAttention(BLOCK), LandmarkMemory(BLOCK, 2)])
def test_a_slice_of_the_queries_gives_a_slice_of_the_result(attention):
    x = qkv()
    out = run(attention, (x[0][:, 20:36], *x[1:]), tokens(20, 36), tokens())[0]
    np.testing.assert_allclose(out, whole(attention, x)[:, 20:36], atol=ROUNDING)


# Memory


@pytest.mark.parametrize(("top_k", "chunk"), [(1, 1), (2, 1), (3, 2), (9, 1)])
def test_memory_is_the_authors_rule(top_k, chunk):
    x = qkv(4)
    ours = whole(LandmarkMemory(BLOCK, top_k, chunk=chunk), x)
    np.testing.assert_allclose(ours, with_memory(x, top_k, chunk), atol=ROUNDING)


def test_all_blocks_opened_is_the_attention_of_training():
    x = qkv()
    training = whole(LandmarkAttention(BLOCK), x)
    for memory in (
        LandmarkMemory(BLOCK, T // BLOCK),
        LandmarkMemory(BLOCK, 1, chunk=9),
        LandmarkMemory(BLOCK, 1, chunk=None),
    ):
        np.testing.assert_allclose(whole(memory, x), training, atol=ROUNDING)
    assert jnp.abs(whole(LandmarkMemory(BLOCK, 2), x) - training).max() > 0.1  # and with fewer it is not


@pytest.mark.parametrize("chunk", [1, 2])
def test_the_split_into_calls_does_not_matter(chunk):
    x, memory = qkv(), LandmarkMemory(BLOCK, 2, chunk=chunk)
    once = whole(memory, x)
    np.testing.assert_allclose(in_calls(memory, x, [0, 22, 44, T]), once, atol=ROUNDING)  # from inside a block
    np.testing.assert_allclose(in_calls(memory, x, [*range(23), 44, T]), once, atol=ROUNDING)


def test_padded_rows_are_as_if_alone():
    """Two rows of different lengths: a prompt with padding on the right, then one token each at its own position."""
    x, memory, lengths = qkv(), LandmarkMemory(BLOCK, 2), np.array([31, 18])
    alone = whole(memory, x)
    cache = memory.init_cache(CFG, B, T)
    index_BT = jnp.broadcast_to(jnp.arange(33), (B, 33))
    positions = TokenPositions.at(index_BT, real_BT=index_BT < lengths[:, None])
    out, cache = run(memory, tuple(y[:, :33] for y in x), positions, positions, cache)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(out[row, :length], alone[row, :length], atol=ROUNDING)
    for step in range(14):
        at = lengths + step
        token, positions = tuple(y[np.arange(B), at][:, None] for y in x), TokenPositions.at(jnp.asarray(at)[:, None])
        out, cache = run(memory, token, positions, positions, cache)
        np.testing.assert_allclose(out[:, 0], alone[np.arange(B), at], atol=ROUNDING)


def test_a_chunk_chooses_together():
    x, each_call = qkv(), LandmarkMemory(BLOCK, 2, PerChunk(), chunk=None)
    calls = in_calls(each_call, x, [0, 16, 32, T])
    assert np.abs(calls - whole(LandmarkMemory(BLOCK, 2, chunk=2), x)).max() > 0.1
    aligned = LandmarkMemory(BLOCK, 2, PerChunk(), chunk=2)  # chunks inside one call are the calls of a chunk each
    np.testing.assert_allclose(whole(aligned, x), calls, atol=ROUNDING)
    steps = in_calls(each_call, x, [*range(T + 1)])  # a chunk of one token chooses as that token does
    np.testing.assert_allclose(steps, whole(LandmarkMemory(BLOCK, 2), x), atol=ROUNDING)


def test_top_blocks_are_the_earliest_of_equals_and_none_that_is_masked():
    score = jnp.array([[1.0, 3.0, 3.0, 3.0], [MASK_VALUE, 0.0, MASK_VALUE, MASK_VALUE], [MASK_VALUE] * 4])[None, None]
    assert top_blocks(score, 2)[0, 0].tolist() == [[1, 2], [1, -1], [-1, -1]]
    assert top_blocks(score, 9).shape[-1] == 4


@pytest.mark.parametrize("attention", [LandmarkAttention(BLOCK), LandmarkMemory(BLOCK, 2)])
def test_bfloat16_stays_bfloat16(attention):
    x = tuple(y.astype(jnp.bfloat16) for y in qkv())
    out, wide = whole(attention, x), whole(attention, tuple(y.astype(jnp.float32) for y in x))
    assert out.dtype == jnp.bfloat16
    error = jnp.abs(out.astype(jnp.float32) - wide)
    assert jnp.median(error) < 2**-7  # a median: keys lose bits when rotated, so a few choices of blocks change


def test_a_model_decodes_what_it_sees_in_one_pass():
    model, rng = Llama(TINY, landmark(BLOCK, 2)), np.random.default_rng(0)
    ids = rng.integers(0, TINY.vocab, (B, T), dtype=np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), ids, tokens(), 1)["params"]
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32), shapes)

    @functools.partial(jax.jit, static_argnums=0)
    def call(model, ids, positions, cache=None):
        hidden, cache = model.apply({"params": params}, ids, positions, T, cache)
        return logits(params, hidden), cache

    once, _ = call(model, ids, tokens())
    cache, outs = model.init_cache(B, T, T), []
    for a, b in [(0, 30), *((t, t + 1) for t in range(30, T))]:
        out, cache = call(model, ids[:, a:b], tokens(a, b), cache)
        outs.append(np.asarray(out))
    np.testing.assert_allclose(np.concatenate(outs, axis=1), once, atol=1e-4)
    trained, _ = call(Llama(TINY, landmark(BLOCK, 2), train=True), ids, tokens())
    near = 3 * BLOCK  # with two blocks opened nothing is left out of the first three
    np.testing.assert_allclose(trained[:, :near], once[:, :near], atol=1e-4)


# Tokens


@pytest.mark.parametrize(
    ("length", "longer"), [(0, 0), (62, 62), (63, 63), (64, 65), (126, 127), (127, 129), (512, 520)]
)
def test_landmarks_come_between_pieces(length, longer):
    raw = np.arange(2 * length, dtype=np.int32).reshape(2, length)
    inserted, real = InsertLandmarks(64)(raw, 5000)
    assert inserted.shape == real.shape == (2, longer)
    assert inserted.dtype == np.int32
    np.testing.assert_array_equal(inserted[real].reshape(2, length), raw)
    assert (inserted[~real] == 5000).all()
    assert (np.flatnonzero(~real[0]) % 64 == 63).all()
    before = [raw[0].tolist().index(inserted[0, i + 1]) for i in np.flatnonzero(~real[0])]
    assert before == list(range(63, length, 63))


def test_new_tokens_begin_as_the_mean():
    rng, D = np.random.default_rng(0), 16
    old = {"embed_VD": rng.standard_normal((97, D)), "unembed_DV": rng.standard_normal((D, 97)), "q_DNH": np.ones(1)}
    old = {name: x.astype(np.float32) for name, x in old.items()}
    new = resize_vocab(old, 2)
    assert new["embed_VD"].shape == (99, D)
    assert new["unembed_DV"].shape == (D, 99)
    hidden = jnp.ones((1, 3, D)) * 0.5
    before, after = logits(old, hidden), logits(new, hidden)
    np.testing.assert_array_equal(new["embed_VD"][:97], old["embed_VD"])
    np.testing.assert_allclose(after[..., :97], before, atol=1e-6)
    np.testing.assert_allclose(after[..., -1], before.mean(-1), atol=1e-6)
    assert new["q_DNH"] is old["q_DNH"]


@pytest.mark.parametrize("flags", [{"block": 1}, {"top_k": 0}, {"chunk": 0}])
def test_impossible_flags_are_refused(flags):
    (name, value) = next(iter(flags.items()))
    with pytest.raises(ValueError, match=f"--{name}={value} must be at least"):
        landmark(**flags)


# LM-Infinite with middle keys

WINDOW, FIRST, INSERT_AT = 8, 3, 5


def looks_back(x, top_k: int, i: int) -> np.ndarray:
    """The row of query i by plain loops, [B, N, H]."""
    q, k, v = (np.asarray(y, np.float64) for y in x)
    freq, out = inv_freq(CFG), np.zeros((B, N, H))
    for b, n in np.ndindex(B, N):
        key, value = k[b, :, n // (N // K)], v[b, :, n // (N // K)]

        def score(j, distance, b=b, n=n, key=key):
            pair = (q[b, i, n, : H // 2] + 1j * q[b, i, n, H // 2 :]) * np.exp(1j * distance * freq)
            return np.sum((pair * np.conj(key[j, : H // 2] + 1j * key[j, H // 2 :])).real) * H**-0.5

        seen = {j: score(j, i - j) for j in range(max(0, i - WINDOW + 1), i + 1)}
        seen |= {j: score(j, WINDOW) for j in range(min(FIRST, i - WINDOW + 1))}
        middle = {j: score(j, INSERT_AT) for j in range(FIRST, i - WINDOW + 1)}
        seen |= dict(sorted(middle.items(), key=lambda item: -item[1])[:top_k])
        weight = np.exp(np.array(list(seen.values())))
        out[b, n] = weight @ value[list(seen)] / weight.sum()
    return out


def look_back(top_k: int) -> TopKMiddleAttention:
    return lm_infinite_topk(WINDOW, FIRST, None, top_k, INSERT_AT, from_layer=1).attention(CFG, T)


@pytest.mark.parametrize("top_k", [1, 4, 100])
def test_the_last_query_looks_back(top_k):
    x, attention = qkv(), look_back(top_k)
    plain = whole(lm_infinite(WINDOW, FIRST).attention(CFG, T), x)
    for out in (whole(attention, x, layer=1), in_calls(attention, x, [0, 20, T], layer=1)):
        np.testing.assert_allclose(out[:, -1], looks_back(x, top_k, T - 1), atol=ROUNDING)
        rest = np.delete(np.arange(T), [19, T - 1])  # 19 is the last of its call
        np.testing.assert_allclose(out[:, rest], plain[:, rest], atol=ROUNDING)
    assert jnp.abs(plain[:, -1] - looks_back(x, top_k, T - 1)).max() > 0.01
    np.testing.assert_allclose(whole(attention, x, layer=0), plain, atol=ROUNDING)  # only from layer 1


def test_every_decoded_token_looks_back():
    x = qkv()
    out = in_calls(look_back(4), x, [*range(T + 1)], layer=1)
    for i in (0, WINDOW, WINDOW + FIRST, 30, T - 1):
        np.testing.assert_allclose(out[:, i], looks_back(x, 4, i), atol=ROUNDING)


def test_the_last_query_of_a_padded_row_is_its_last_real_one():
    x, lengths = qkv(), np.array([44, 31])
    index_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
    out = whole(look_back(4), x, TokenPositions.at(index_BT, real_BT=index_BT < lengths[:, None]), layer=1)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(out[row, length - 1], looks_back(x, 4, length - 1)[row], atol=ROUNDING)
