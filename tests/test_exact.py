"""Laws of the positional methods, growth of frequencies, schedules, configurations of Hugging Face."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.rope import Rope, cos_sin, inv_freq, rotate
from longjax.checkpoints.param_mapping import hf_to_meta, meta_to_hf
from longjax.config import LLAMA2_7B, TINY
from longjax.methods.alibi import alibi, alibi_slopes, nope, t5_bucket
from longjax.methods.clex import clex
from longjax.methods.ds_bf16 import ds_bf16
from longjax.methods.llama3 import llama3
from longjax.methods.longrope import longrope
from longjax.methods.method import base
from longjax.methods.ntk import ntk_32k, ntk_64k, ntk_64k_code, ntk_base, ntk_frozen, ntk_inv_freq, ntk_static
from longjax.methods.pi import dynamic_pi, pi
from longjax.methods.theta import theta
from longjax.methods.yarn import correction_range, dynamic_yarn, part_ntk, yarn

PHI = dataclasses.replace(LLAMA2_7B, head_width=80, rotary_fraction=0.4, trained_len=2048)
ULP = 1.2e-7  # of float32, relative
ONES = ",".join(["1"] * 64)


def rope_of(method, length, cfg=LLAMA2_7B, own=None):
    return method.rope(cfg, length, own or {}, None)


@pytest.mark.parametrize("cfg", [LLAMA2_7B, PHI])
@pytest.mark.parametrize(
    "method",
    [pi(1.0), dynamic_pi(), ntk_static(1.0), ntk_frozen(7.0), yarn(1.0), dynamic_yarn(), part_ntk(1.0), llama3(1.0),
     theta(10_000.0), clex(log_scale=False)],
    ids=["pi", "dynamic_pi", "ntk_static", "ntk_frozen", "yarn", "dynamic_yarn", "part_ntk", "llama3", "theta", "clex"],
)  # fmt: skip
def test_no_extension_is_plain_rope(method, cfg):
    length = cfg.trained_len
    ours, plain = rope_of(method, length, cfg, method.init_params(jax.random.key(0), cfg)), rope_of(base(), length, cfg)
    assert ours.scale == plain.scale == 1.0
    np.testing.assert_allclose(ours.inv_freq_R, plain.inv_freq_R, rtol=ULP)


def test_longrope_of_ones_is_plain_rope():
    method = longrope(ONES, ONES, factor=1.0)
    for length in (100, 100_000):
        np.testing.assert_allclose(rope_of(method, length).inv_freq_R, inv_freq(LLAMA2_7B), rtol=ULP)


@pytest.mark.parametrize("cfg", [LLAMA2_7B, PHI])
def test_ntk_divides_the_slowest_pair_by_alpha_and_keeps_the_fastest(cfg):
    ours, plain = ntk_inv_freq(cfg, 29.0), inv_freq(cfg)
    np.testing.assert_allclose(plain[-1] / ours[-1], 29.0, rtol=1e-12)
    assert ours[0] == plain[0] == 1.0


def test_ntk_composes():
    stretched = dataclasses.replace(LLAMA2_7B, rope_base=ntk_base(LLAMA2_7B, 3.0))
    np.testing.assert_allclose(ntk_inv_freq(stretched, 5.0), ntk_inv_freq(LLAMA2_7B, 15.0), rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "alphas"),
    [
        (ntk_frozen(), [1, 1, 3, 7, 15, 31, 63]),
        (ntk_32k(), [29, 29, 29, 29, 29, 61, 125]),
        (ntk_64k(), [57] * 7),
        (ntk_64k_code(), [121] * 6 + [249]),
    ],
    ids=["frozen", "32k", "64k", "64k_code"],
)
def test_alphas_of_the_paper(method, alphas):
    """Tables 7 and 8 of arXiv:2409.12181, lengths 2K to 128K."""
    for length, alpha in zip((2**n for n in range(11, 18)), alphas, strict=True):
        np.testing.assert_allclose(rope_of(method, length).inv_freq_R, ntk_inv_freq(LLAMA2_7B, alpha), rtol=ULP)


def test_alpha_is_continuous_where_growth_begins():
    at, beyond = (ntk_32k().rope.alpha(LLAMA2_7B, length) for length in (32_768, 32_769))
    assert 0 < beyond - at < 4 / 4096 + 1e-9


def test_yarn_keeps_fast_pairs_and_interpolates_slow_ones():
    lo, hi = correction_range(LLAMA2_7B, 32.0, 1.0)
    assert (lo, hi) == (20, 46)
    ours, plain = np.asarray(rope_of(yarn(8.0), 1).inv_freq_R), inv_freq(LLAMA2_7B)
    np.testing.assert_allclose(ours[: lo + 1], plain[: lo + 1], rtol=ULP)
    np.testing.assert_allclose(ours[hi:], plain[hi:] / 8, rtol=ULP)
    assert np.all((ours[lo + 1 : hi] < plain[lo + 1 : hi]) & (ours[lo + 1 : hi] > plain[lo + 1 : hi] / 8))
    assert correction_range(PHI, 32.0, 1.0) == (4, 11)


def test_yarn_temperatures():
    assert rope_of(yarn(8.0), 1).scale == pytest.approx(1.2079442)
    assert rope_of(yarn(8.0, attention_factor=1.0), 1).scale == 1.0
    assert rope_of(yarn(40.0, mscale=0.707, mscale_all_dim=0.707), 1).scale == 1.0


@pytest.mark.parametrize("method", [pi(3.0), yarn(8.0)], ids=["pi", "yarn"])
def test_scores_depend_on_distance_alone(method):
    rope = rope_of(method, 9000, PHI)
    q_BTNH, k_BTNH = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 80))

    def score(i, j):
        turned = [rotate(x, jnp.full((1, 1), p, jnp.float32), rope) for x, p in ((q_BTNH, i), (k_BTNH, j))]
        return float(jnp.sum(turned[0] * turned[1]))

    # angles at place 4000 carry 4000 * 6e-8 of rounding, times |q| |k| of about 80
    for shift in (1.0, 517.0, 4000.0):
        assert score(40.0 + shift, 7.0 + shift) == pytest.approx(score(40.0, 7.0), abs=80 * 2 * 4000 * 6e-8)
    assert abs(score(40.0, 7.0) - score(40.0, 8.0)) > 1e-2
    np.testing.assert_array_equal(rotate(q_BTNH, jnp.ones((1, 1)), rope)[..., 32:], q_BTNH[..., 32:])


@pytest.mark.parametrize("rotary_dim", [None, 8])
def test_scores_do_not_know_the_layout(rotary_dim):
    N, H, R = 3, 16, (rotary_dim or 16) // 2
    w, x = np.random.default_rng(0).normal(size=(N * H, 8)), np.random.default_rng(1).normal(size=(5, 8))
    turn = np.exp(1j * np.arange(5)[:, None, None] * 10_000.0 ** (-np.arange(R) / R))

    def rotated(w, pairs):
        x_TNH = (x @ w.T).reshape(5, N, H)
        z = (x_TNH[..., pairs[0]] + 1j * x_TNH[..., pairs[1]]) * turn
        return np.concatenate([z.real, z.imag, x_TNH[..., 2 * R :]], -1)

    meta = rotated(w, (slice(0, 2 * R, 2), slice(1, 2 * R, 2)))
    hf = rotated(meta_to_hf(w, N, rotary_dim), (slice(0, R), slice(R, 2 * R)))
    np.testing.assert_allclose(hf, meta, atol=1e-12)
    np.testing.assert_array_equal(hf_to_meta(meta_to_hf(w, N, rotary_dim), N, rotary_dim), w)


def test_float32_angles_are_as_good_as_float32_allows():
    rope, place_T = rope_of(base(), 1), np.r_[0:64, 131_000:131_072]
    cos_BTR, sin_BTR = cos_sin(jnp.asarray(place_T, jnp.float32)[None], rope)
    angle_TR = place_T[:, None] * inv_freq(LLAMA2_7B)
    allowed = 6e-7 * (1 + angle_TR)
    assert np.all(np.abs(cos_BTR[0] - np.cos(angle_TR)) <= allowed)
    assert np.all(np.abs(sin_BTR[0] - np.sin(angle_TR)) <= allowed)


def test_deepspeed_tables_lose_positions():
    position_BT = jnp.arange(32_768, dtype=jnp.float32)[None]
    for method, distinct_rows in ((pi(8.0), 1153), (yarn(8.0), 1153), (ntk_frozen(4.0), 32_768)):
        rope = rope_of(ds_bf16(method), 32_768)
        rows = np.concatenate([x[0] for x in cos_sin(position_BT, rope)], axis=-1)
        assert len({row.tobytes() for row in rows}) == distinct_rows
    with pytest.raises(ValueError, match="ds_bf16"):
        ds_bf16(clex())


@pytest.mark.parametrize("heads", [1, 4, 6, 12, 32])
def test_alibi_slopes(heads):
    """MPT takes them from the next power of two: odd places first, then the even ones."""
    power = 2 ** math.ceil(math.log2(heads))
    mpt = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    mpt = mpt if power == heads else np.concatenate([mpt[1::2], mpt[0::2]])[:heads]
    np.testing.assert_allclose(alibi_slopes(heads), mpt, rtol=1e-12)


@pytest.mark.parametrize("method", [alibi(), nope()], ids=["alibi", "nope"])
def test_nothing_is_rotated(method):
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 16))
    rope = rope_of(method, 3, TINY)
    np.testing.assert_array_equal(rotate(x, jnp.arange(3.0)[None], rope), x)
    assert (rope.slopes_N is None) == (method.rope is nope().rope)


def test_t5_buckets_are_exact_then_coarse():
    distance = np.arange(400)
    bucket = t5_bucket(-distance)
    np.testing.assert_array_equal(bucket[:16], np.arange(16))
    assert np.all(np.diff(bucket) >= 0)
    assert (bucket[127], bucket[399]) == (31, 31)
    assert np.all(t5_bucket(distance) == 0)  # the future has one bucket


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: longrope("1,2,x", ONES), "--short_factor"),
        (lambda: longrope(ONES, "/nowhere.json"), "--long_factor"),
        (lambda: rope_of(longrope("1,2", "1,2"), 1), "--short_factor"),
        (lambda: llama3(8.0, 4.0, 1.0), "--low_freq_factor"),
    ],
)
def test_mistakes_name_the_flag(make, flag):
    with pytest.raises(ValueError, match=flag):
        make()


def test_methods_compare_by_value():
    for make in (pi, ntk_32k, ntk_64k, yarn, clex, llama3, theta, alibi, nope, dynamic_yarn):
        assert make() == make()
        assert hash(make()) == hash(make())
    assert Rope(jnp.zeros(2)).table == Rope(jnp.ones(2)).table
