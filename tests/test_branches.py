"""Positions and intervals, pair by pair, against the definitions written as loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.branches import Clipped, Grouped, Interpolated, Modulo
from longjax.attention.intervals import (
    BeyondWindow,
    CacheRetention,
    Causal,
    Chunk,
    DistanceRange,
    EarlierChunks,
    PreviousChunk,
    RolledChunksLeak,
    ShiftedChunks,
    SlidingWindow,
)
from longjax.config import ModelConfig
from longjax.methods.dca import dca
from longjax.methods.lm_infinite import lm_infinite
from longjax.methods.longlora import longlora, longlora_sft
from longjax.methods.rerope import leaky_rerope, rerope
from longjax.methods.self_extend import self_extend, self_extend_auto
from longjax.methods.self_extend_octaves import self_extend_octaves
from longjax.methods.sliding_window import sliding_window
from longjax.methods.streaming_llm import streaming_llm

T = 48
CFG = ModelConfig(dim=64, heads=4, kv_heads=2, trained_len=32, dtype="float32")


def distances(method, length=T):
    """-> [head, i, j]: at which distance head sees key j from query i; NaN: not at all."""
    branches = (method.attention_train or method.attention)(CFG, length).branches
    out = np.full((CFG.heads, length, length), np.nan)
    position = jnp.arange(length, dtype=jnp.float32)
    for branch in branches:
        lo, hi = branch.interval(jnp.arange(length)[:, None], jnp.arange(CFG.heads))
        lo, hi = (np.broadcast_to(x, (length, CFG.heads)) for x in (lo, hi))
        distance = np.asarray(branch.query_position(position))[:, None] - np.asarray(branch.key_position(position))
        for i in range(length):
            for head in range(CFG.heads):
                row, seen = out[head, i], slice(lo[i, head], hi[i, head])
                assert np.isnan(row[seen]).all(), "two branches see one key"
                row[seen] = distance[i, seen]
    return out


def near(i, j, window, far):
    return i - j if i - j < window else far


def lm_infinite_pair(i, j, head):
    return near(i, j, 16, 16 if j < 4 else np.nan)


def clamp_below_pair(i, j, head):
    return near(i, j, 16, 15 if j < 4 else np.nan)


def streaming_pair(i, j, head):
    return near(i, j, 12, min(i, 4 + 11) - j if j < 4 else np.nan)


def self_extend_pair(i, j, head):
    return near(i, j, 16, i // 4 - j // 4 + 16 - 4)


def true_division_pair(i, j, head):
    return near(i, j, 18, i // 4 - j // 4 + 18 - 4.5)


def octaves_pair(i, j, head, window=6):
    octave = sum(i - j >= window * 2**n for n in range(9))
    return (i - j) / 2**octave + octave * window / 2


def dca_pair(i, j, head, chunk=20, local=4):
    size = chunk - local
    if j // size == i // size:
        return i % size - j % size
    if j // size == i // size - 1:
        return min(i % size + size, chunk) - j % size
    return min(2 * size - 1, chunk) - j % size


def grouped_pair(i, j, head, size=12, shift=0):
    return i - j if (i - shift) // size == (j - shift) // size else np.nan


def shifted_pair(i, j, head):
    return grouped_pair(i, j, head, shift=6 if head >= 2 else 0)


def odd_fixed_pair(i, j, head):
    return grouped_pair(i, j, head, size=13, shift=6 if head >= 2 else 0)


PAIRS = {
    "sliding_window": (sliding_window(16), lambda i, j, head: near(i, j, 16, np.nan)),
    "sliding_window, trained length": (sliding_window(), lambda i, j, head: near(i, j, 32, np.nan)),
    "lm_infinite": (lm_infinite(16, 4), lm_infinite_pair),
    "lm_infinite, clamp window - 1": (lm_infinite(16, 4, 15), clamp_below_pair),
    "lm_infinite, trained length": (
        lm_infinite(), lambda i, j, head: near(i, j, 32, 32 if j < 10 else np.nan),
    ),
    "streaming_llm": (streaming_llm(4, 11), streaming_pair),
    "streaming_llm, trained length": (
        streaming_llm(), lambda i, j, head: near(i, j, 28, min(i, 31) - j if j < 4 else np.nan),
    ),
    "self_extend": (self_extend(16, 4), self_extend_pair),
    "self_extend, true division": (self_extend(18, 4, shift="true_division"), true_division_pair),
    "self_extend_octaves": (self_extend_octaves(6), octaves_pair),
    "rerope": (rerope(16), lambda i, j, head: near(i, j, 16, 16)),
    "leaky_rerope": (leaky_rerope(16, 4.0), lambda i, j, head: near(i, j, 16, (i - j + 16 * 3) / 4)),
    "dca": (dca(20, 4), dca_pair),
    "dca, trained length": (dca(), lambda i, j, head: dca_pair(i, j, head, 24, 4)),
    "longlora": (longlora(groups=4), shifted_pair),
    "longlora, noshift": (longlora(groups=4, shift="noshift"), grouped_pair),
    "longlora_sft, odd group": (longlora_sft(group=13), odd_fixed_pair),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_stand_where_the_definition_says(name):
    method, pair = PAIRS[name]
    want = np.full((CFG.heads, T, T), np.nan)
    for head in range(CFG.heads):
        for i in range(T):
            for j in range(i + 1):
                want[head, i, j] = pair(i, j, head)
    np.testing.assert_array_equal(distances(method), want)


def test_a_rolled_group_shows_its_first_half_the_end():
    got, causal = distances(longlora(groups=4, shift="s2_wrap")), distances(longlora(groups=4))
    leak = np.zeros(got.shape, bool)
    leak[2:, :6, T - 6 :] = True  # shifted heads, first half group, last half group
    np.testing.assert_array_equal(~np.isnan(got) & np.isnan(causal), leak)
    np.testing.assert_array_equal(got[~leak], causal[~leak])


def test_intervals_never_step_back():
    """Kernels rely on it: keys of neighbouring queries form one range."""
    for method, _ in PAIRS.values():
        for branch in (method.attention_train or method.attention)(CFG, T).branches:
            for bound in branch.interval(jnp.arange(T)[:, None], jnp.arange(CFG.heads)):
                assert (np.diff(np.asarray(bound), axis=0) >= 0).all(), branch


def test_padding_sees_nothing():
    """A query of index -1 has an empty interval."""
    methods = [method for method, _ in PAIRS.values()] + [longlora(groups=4, shift="s2_wrap")]
    for method in methods:
        for branch in (method.attention_train or method.attention)(CFG, T).branches:
            lo, hi = branch.interval(jnp.full((1, 1), -1), jnp.arange(CFG.heads))
            assert np.all(np.asarray(hi) <= np.asarray(lo)), branch


def test_what_a_cache_retains_covers_what_later_queries_see():
    for method, _ in PAIRS.values():
        for branch in (method.attention_train or method.attention)(CFG, T).branches:
            retention = branch.interval.retention
            lo, hi = branch.interval(jnp.arange(T)[:, None], jnp.arange(CFG.heads))
            lo, hi, i = np.asarray(lo), np.asarray(hi), np.arange(T)[:, None]
            if retention.last is not None:
                assert (np.where(lo < hi, i - lo, 0) < retention.last).all(), branch
            if retention.first is not None:
                assert (hi <= retention.first).all(), branch


def test_position_maps():
    position = np.arange(50)
    for position_map, want in [
        (Modulo(16), [p % 16 for p in position]),
        (Modulo(16, 16.0, 20.0), [min(p % 16 + 16, 20) for p in position]),
        (Grouped(4, 12.0), [p // 4 + 12 for p in position]),
        (Interpolated(4.0, 48.0), [(p + 48) / 4 for p in position]),
        (Clipped(15.0), [min(p, 15) for p in position]),
    ]:
        np.testing.assert_array_equal(np.asarray(position_map(jnp.asarray(position, jnp.float32))), want)


def test_self_extend_auto_takes_the_finest_group_that_fits():
    for window, alpha, length in [(8, 0.5, 40), (8, 0.5, 64), (8, 2 / 3, 64), (16, 1.0, 100), (12, 1.0, 48)]:
        fits = [n for n in range(1, window + 1) if window % n == 0 and window + (length - window) / n <= 32 * alpha]
        far = self_extend_auto(window, alpha).attention(CFG, length).branches[1]
        assert far.key_position == Grouped(fits[0])
    assert len(self_extend_auto(8).attention(CFG, 32).branches) == 1, "within the trained length nothing changes"


def test_octaves_meet_without_a_jump_and_take_half_a_window_each():
    """32 tokens and four octaves: 16 times the length in three times the room."""
    far_D = distances(self_extend_octaves(32), 512)[0, -1, ::-1]  # by distance
    octave_D = np.searchsorted(32 * 2 ** np.arange(5), np.arange(512), side="right")
    step_D = np.diff(far_D)
    assert ((step_D > 0) & (step_D <= 1)).all()
    np.testing.assert_array_equal(step_D[octave_D[1:] == octave_D[:-1]], 0.5 ** octave_D[1:][np.diff(octave_D) == 0])
    assert far_D[-1] == 32 * 3 - 1 / 16


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: self_extend(18, 4), "--window=18 must be a multiple of --group=4"),
        (lambda: self_extend_octaves(0), "--window=0 must be at least 1"),
        (lambda: self_extend_auto(8, 0.3).attention(CFG, 4000), "--alpha=0.3"),
        (lambda: dca(16, 16).attention(CFG, T), "--local=16 must be below --chunk=16"),
        (lambda: longlora(groups=5).attention_train(CFG, T), "--groups=5 must divide the sequence length 48"),
        (lambda: longlora(groups=5, shift="noshift").attention_train(CFG, T), "--groups=5"),
        (lambda: longlora(groups=16, shift="s2_wrap").attention_train(CFG, T), "--groups=16"),
    ],
)
def test_bad_settings_name_their_flag(make, flag):
    with pytest.raises(ValueError, match=flag):
        make()


def test_retained_tokens_never_exceed_the_row():
    assert (CacheRetention(last=16).size(8), CacheRetention(last=16).size(99)) == (8, 16)
    assert CacheRetention(first=4).size(99) == 4


INTERVALS = (
    Causal(),
    SlidingWindow(5),
    SlidingWindow(100),
    BeyondWindow(7),
    BeyondWindow(7, 3),
    BeyondWindow(7, 30),
    BeyondWindow(100),
    Chunk(8),
    Chunk(8, 4),
    Chunk(100, 50),
    DistanceRange(5, 10),
    DistanceRange(5, 100),
    DistanceRange(60, 120),
    PreviousChunk(8),
    PreviousChunk(100),
    EarlierChunks(8),
    EarlierChunks(6),
    ShiftedChunks(8, 2),
    ShiftedChunks(6, 1),
)


ROWS = [(interval, length) for interval in INTERVALS for length in (48, 47, 32, 5)]


@pytest.mark.parametrize(
    ("interval", "length"), [*ROWS, (RolledChunksLeak(8, 2, 48), 48), (RolledChunksLeak(8, 2, 32), 32)], ids=str
)
def test_rectangles_are_the_interval(interval, length):
    """Every pair in exactly one rectangle, and no other pair in any."""
    heads = 4
    lo, hi = interval(jnp.arange(length)[:, None], jnp.arange(heads))
    lo, hi = (np.broadcast_to(x, (length, heads)).T[:, :, None] for x in (lo, hi))
    wanted = (lo <= np.arange(length)) & (np.arange(length) < hi)
    found = np.zeros((heads, length, length), int)
    for rectangle in interval.rectangles(length):
        for n in range(rectangle.count):
            t, s = rectangle.t + n * rectangle.rows, rectangle.s + n * rectangle.cols
            pairs = (slice(*rectangle.heads), slice(t, t + rectangle.rows), slice(s, s + rectangle.cols))
            found[pairs] += np.asarray(rectangle.mask())
    np.testing.assert_array_equal(found, wanted)
