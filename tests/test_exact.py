"""Laws of the positional methods, growth of frequencies, schedules, configurations of Hugging Face."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from longjax import growth, hf_config, schedules
from longjax.attention import Tokens
from longjax.cache import Store
from longjax.config import LLAMA2_7B, TINY
from longjax.convert import hf_to_meta, meta_to_hf
from longjax.llama import Llama
from longjax.methods.alibi import alibi, alibi_slopes, nope, t5_bucket
from longjax.methods.base import base
from longjax.methods.clex import ClexRope, clex, clex_rk4_peer, distinct, draw, train_places
from longjax.methods.ds_bf16 import ds_bf16
from longjax.methods.llama3 import llama3
from longjax.methods.longrope import longrope
from longjax.methods.ntk import ntk_32k, ntk_64k, ntk_64k_code, ntk_base, ntk_frozen, ntk_inv_freq, ntk_static
from longjax.methods.pi import dynamic_pi, pi
from longjax.methods.theta import theta
from longjax.methods.yarn import correction_range, dynamic_yarn, part_ntk, yarn
from longjax.rope import Rope, cos_sin, inv_freq, rotate

PHI = dataclasses.replace(LLAMA2_7B, head_width=80, rotary_fraction=0.4, trained_len=2048)
ULP = 1.2e-7  # of float32, relative
ONES = ",".join(["1"] * 64)


def rope_of(method, length, cfg=LLAMA2_7B, own=None):
    return method.rope(cfg, length, own or {}, None)


def own_of(method, cfg, seed=0, size=0.02):
    """CLEX's matrices, the second no longer zero."""
    own = method.own(jax.random.key(seed), cfg)
    return own | {"down_PR": size * jax.random.normal(jax.random.key(seed + 1), own["down_PR"].shape)}


@pytest.mark.parametrize("cfg", [LLAMA2_7B, PHI])
@pytest.mark.parametrize(
    "method",
    [pi(1.0), dynamic_pi(), ntk_static(1.0), ntk_frozen(7.0), yarn(1.0), dynamic_yarn(), part_ntk(1.0), llama3(1.0),
     theta(10_000.0), clex(log_scale=False)],
    ids=["pi", "dynamic_pi", "ntk_static", "ntk_frozen", "yarn", "dynamic_yarn", "part_ntk", "llama3", "theta", "clex"],
)  # fmt: skip
def test_no_extension_is_plain_rope(method, cfg):
    length = cfg.trained_len
    ours, plain = rope_of(method, length, cfg, method.own(jax.random.key(0), cfg)), rope_of(base(), length, cfg)
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


# CLEX


@pytest.mark.parametrize("make", [clex, clex_rk4_peer])
def test_untrained_clex_is_dynamic_ntk(make):
    method = make(max_factor=8)
    own = method.own(jax.random.key(0), PHI)
    for t in (1, 2, 8):
        ours = rope_of(method, t * 2048, PHI, own).inv_freq_R
        # the peer's form solves for the known part too, in float32: 3e-5
        np.testing.assert_allclose(ours, ntk_inv_freq(PHI, 2 * t - 1), rtol=ULP if make is clex else 1e-4)


@pytest.mark.parametrize("act", ["silu", "tanh"])
def test_clex_solvers_agree(act):
    few, many, peer = clex(8, act, 2, steps=64), clex(8, act, 2), clex_rk4_peer(8, act, 2)
    own = own_of(few, PHI)
    a, b, c = (rope_of(method, 8 * 2048, PHI, own).inv_freq_R for method in (few, many, peer))
    assert np.max(np.abs(a / ntk_inv_freq(PHI, 15) - 1)) > 0.01  # the network does something
    np.testing.assert_allclose(a, b, rtol=5e-6)
    np.testing.assert_allclose(c, b, rtol=1e-4)


def test_clex_has_no_gradient_at_one_and_some_beyond():
    method = clex(8)
    own = own_of(method, PHI)
    grads = [jax.grad(lambda own, t=t: jnp.sum(method.rope.inv_freq(PHI, own, jnp.int32(t))))(own) for t in (1, 3)]
    assert all(np.all(x == 0) for x in grads[0].values())
    assert all(np.any(x != 0) and np.all(np.isfinite(x)) for x in grads[1].values())


def test_clex_scales_queries_in_evaluation_only():
    method = clex(32)
    own = own_of(method, TINY)
    assert rope_of(method, 1024, TINY, own).query_scale == pytest.approx(math.log(1024) / math.log(32))
    assert rope_of(clex(32, log_scale=False), 1024, TINY, own).query_scale == 1.0
    assert method.rope(TINY, 64, own, jax.random.key(0)).query_scale == 1.0


def test_clex_says_where_it_ends():
    assert rope_of(clex(4), 128, TINY, own_of(clex(4), TINY)).inv_freq_R.shape == (8,)
    with pytest.raises(ValueError, match="--max_factor=4 ends at 128"):
        rope_of(clex(4), 129, TINY, own_of(clex(4), TINY))


def test_distinct_draws_every_set_alike():
    """Chi-square over all 15 pairs out of 6, 6000 draws: 14 degrees of freedom stay below 36 but once in 1000."""
    keys = jax.random.split(jax.random.key(0), 6000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: distinct(key, 2, jnp.int32(6))))(keys))
    counts = np.array([np.sum(np.all(drawn == pair, axis=1)) for pair in itertools.combinations(range(6), 2)])
    assert counts.sum() == 6000
    assert np.sum((counts - 400) ** 2 / 400) < 36


@pytest.mark.parametrize("t", [1, 2, 5])
def test_training_places(t):
    length, trained_len = 128, 32
    inner_T = jax.jit(draw, static_argnums=2)(jax.random.key(t), jnp.int32(t), length)
    assert np.all(np.diff(inner_T) > 0)
    assert inner_T[0] >= 0
    assert inner_T[-1] < length * t - 2
    place_T = train_places(inner_T, jnp.int32(t), length, trained_len)
    assert (float(place_T[0]), float(place_T[-1])) == (0.0, length * t // 4 - 1)
    np.testing.assert_array_equal(place_T[1:-1] * 4, inner_T + 1)
    assert place_T[-2] < trained_len * t


def test_clex_trains_in_one_compiled_step():
    """t and the places come from the key inside jit; every t is drawn, and gradients reach the network."""
    method, cfg = clex(4, steps=16), TINY
    assert isinstance(method.rope, ClexRope)
    ropes = jax.jit(jax.vmap(lambda key: method.rope(cfg, 64, own_of(method, cfg), key)))(
        jax.random.split(jax.random.key(0), 64)
    )
    assert len(np.unique(ropes.inv_freq_R[:, -1])) == 4
    model, where = Llama(cfg, method, train=True), Tokens.whole(1, 64)
    tokens = jnp.arange(64, dtype=jnp.int32)[None] % 7
    params = jax.jit(lambda key: model.init(key, tokens, where, 64)["params"])(jax.random.key(0))

    def loss(params, key):
        return jnp.sum(model.apply({"params": params}, tokens, where, 64, key=key)[0] ** 3)

    grad = jax.jit(jax.grad(loss))
    down = np.stack([grad(params, jax.random.key(n))["method"]["down_PR"] for n in range(4)])
    assert np.any(down != 0)
    assert np.all(np.isfinite(down))


# Growth


@pytest.mark.parametrize(
    ("policy", "used"),
    [
        (growth.stateless, [20, 80, 40, 32, 20]),
        (growth.sticky, [32, 80, 80, 80, 80]),
        (growth.sticky_with_reset, [32, 80, 80, 80, 32]),
    ],
)
def test_lengths_used(policy, used):
    assert list(growth.lengths_used(policy, [20, 80, 40, 32, 20], 32)) == used


@pytest.mark.parametrize("method", [ntk_frozen(4.0), dynamic_yarn()], ids=["ntk", "yarn"])
@pytest.mark.parametrize("layers", [(), (2,)])
def test_reapply_is_as_if_rotated_anew(method, layers):
    """Two rotations round twice: 6e-8 of angles up to 50, and of the keys."""
    old, new = rope_of(method, 40, TINY), rope_of(method, 128, TINY)
    k_BWKH = jax.random.normal(jax.random.key(0), (1, 50, 2, 16))
    index_BW = jnp.arange(50, dtype=jnp.int32)[None]

    def stacked(x):
        return jnp.broadcast_to(x, layers + x.shape)

    def store(rope):
        k = stacked(rotate(k_BWKH, index_BW.astype(jnp.float32), rope))
        return Store(k, k, stacked(index_BW), stacked(0 * index_BW))

    assert np.max(np.abs(store(old).k_BWKH - store(new).k_BWKH)) > 0.1
    np.testing.assert_allclose(growth.reapply(store(old), old, new).k_BWKH, store(new).k_BWKH, atol=4 * 2 * 50 * 6e-8)


# Audit, ALiBi, schedules, configurations


def test_deepspeed_tables_lose_positions():
    place_BT = jnp.arange(32_768, dtype=jnp.float32)[None]
    for method, distinct_rows in ((pi(8.0), 1153), (yarn(8.0), 1153), (ntk_frozen(4.0), 32_768)):
        rope = rope_of(ds_bf16(method), 32_768)
        rows = np.concatenate([x[0] for x in cos_sin(place_BT, rope)], axis=-1)
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


def test_schedules_run_inside_jit_and_meet_their_corners():
    made = {
        "constant": (schedules.constant(1.0, 10), {0: 0.0, 5: 0.5, 10: 1.0, 99: 1.0}),
        "cosine": (schedules.cosine(1.0, 110, 10, floor=0.1), {0: 0.0, 10: 1.0, 60: 0.55, 110: 0.1, 200: 0.1}),
        "linear": (schedules.linear(1.0, 110, 10), {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.5, 110: 0.0}),
        "log": (schedules.log_warmup(1.0, 16), {0: 1.0, 1: 0.0, 4: 0.5, 16: 1.0, 99: 1.0}),
        "log decay": (schedules.log_warmup_decay(1.0, 116, 16), {0: 1.0, 4: 0.5, 16: 1.0, 67: 0.5, 117: 0.0}),
    }
    for name, (schedule, corners) in made.items():
        got = jax.jit(jax.vmap(schedule))(jnp.asarray(list(corners)))
        np.testing.assert_allclose(got, list(corners.values()), atol=1e-6, err_msg=name)
    assert optax.sgd(made["cosine"][0]).init({"x": jnp.zeros(2)})


def test_ntk_32k_survives_hugging_face():
    """As exported: base and factor re-expressed. The same frequencies at every length of the paper."""
    a0, s, reach = 29.0, 4.0, 32_768
    rope = {"rope_type": "dynamic", "rope_theta": ntk_base(LLAMA2_7B, a0), "factor": (s * reach / 4096) / a0}
    config = {"rope_parameters": rope, "max_position_embeddings": reach}
    method = hf_config.method_of(config)
    cfg = dataclasses.replace(LLAMA2_7B, rope_base=rope["rope_theta"], trained_len=hf_config.trained_len(config))
    for length in (2**n for n in range(11, 18)):
        theirs, ours = rope_of(method, length, cfg), rope_of(ntk_32k(), length)
        np.testing.assert_allclose(theirs.inv_freq_R, ours.inv_freq_R, rtol=2e-7)


def test_configurations_of_hugging_face():
    llama = {
        "model_type": "llama", "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 96, "rms_norm_eps": 1e-5, "max_position_embeddings": 32,
    }  # fmt: skip
    assert dataclasses.replace(hf_config.model_of(llama), dtype="float32") == TINY
    with pytest.raises(ValueError, match=r"unknown rope type 'mystery'.*yarn"):
        hf_config.method_of({"rope_scaling": {"type": "mystery"}})
    with pytest.raises(ValueError, match=r"unknown model_type 'gpt2'.*llama"):
        hf_config.model_of({"model_type": "gpt2"})
    with pytest.raises(ValueError, match="'linear' needs 'factor'"):
        hf_config.method_of({"rope_scaling": {"type": "linear"}})
    su = {"type": "su", "short_factor": [1.0], "long_factor": [2.0], "factor": 4.0}
    assert hf_config.method_of({"rope_scaling": su}) == longrope("1.0", "2.0", 4.0)


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
