"""Laws of CLEX: its solvers, its draws in training, its one compiled step."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.core import TokenPositions
from longjax.config import LLAMA2_7B, TINY
from longjax.methods.clex import ClexRope, clex, clex_rk4_peer, distinct_positions, random_factor, train_positions
from longjax.methods.ntk import ntk_inv_freq
from longjax.model.llama import Llama

PHI = dataclasses.replace(LLAMA2_7B, head_width=80, rotary_fraction=0.4, trained_len=2048)
ULP = 1.2e-7  # of float32, relative


def rope_of(method, length, cfg=LLAMA2_7B, method_params=None):
    return method.rope(cfg, length, method_params or {}, None)


def trained_params(method, cfg, seed=0, size=0.02):
    """-> CLEX's matrices, the second no longer zero."""
    method_params = method.init_params(jax.random.key(seed), cfg)
    return method_params | {
        "down_PR": size * jax.random.normal(jax.random.key(seed + 1), method_params["down_PR"].shape)
    }


@pytest.mark.parametrize("make", [clex, clex_rk4_peer])
def test_untrained_clex_is_dynamic_ntk(make):
    method = make(max_factor=8)
    method_params = method.init_params(jax.random.key(0), PHI)
    for t in (1, 2, 8):
        ours = rope_of(method, t * 2048, PHI, method_params).inv_freq_R
        # the peer's form solves for the known part too, in float32: 3e-5
        np.testing.assert_allclose(ours, ntk_inv_freq(PHI, 2 * t - 1), rtol=ULP if make is clex else 1e-4)


@pytest.mark.parametrize("act", ["silu", "tanh"])
def test_clex_solvers_agree(act):
    few, many, peer = clex(8, act, 2, ode_steps=64), clex(8, act, 2), clex_rk4_peer(8, act, 2)
    method_params = trained_params(few, PHI)
    a, b, c = (rope_of(method, 8 * 2048, PHI, method_params).inv_freq_R for method in (few, many, peer))
    assert np.max(np.abs(a / ntk_inv_freq(PHI, 15) - 1)) > 0.01  # the network does something
    np.testing.assert_allclose(a, b, rtol=5e-6)
    np.testing.assert_allclose(c, b, rtol=1e-4)


def test_clex_has_no_gradient_at_one_and_some_beyond():
    method = clex(8)
    method_params = trained_params(method, PHI)
    grads = [
        jax.grad(lambda method_params, t=t: jnp.sum(method.rope.inv_freq(PHI, method_params, jnp.int32(t))))(
            method_params
        )
        for t in (1, 3)
    ]
    assert all(np.all(x == 0) for x in grads[0].values())
    assert all(np.any(x != 0) and np.all(np.isfinite(x)) for x in grads[1].values())


def test_clex_scales_queries_in_evaluation_only():
    method = clex(32)
    method_params = trained_params(method, TINY)
    assert rope_of(method, 1024, TINY, method_params).query_scale == pytest.approx(math.log(1024) / math.log(32))
    assert rope_of(clex(32, log_scale=False), 1024, TINY, method_params).query_scale == 1.0
    assert method.rope(TINY, 64, method_params, jax.random.key(0)).query_scale == 1.0


def test_clex_says_where_it_ends():
    assert rope_of(clex(4), 128, TINY, trained_params(clex(4), TINY)).inv_freq_R.shape == (8,)
    with pytest.raises(ValueError, match="--max_factor=4 ends at 128"):
        rope_of(clex(4), 129, TINY, trained_params(clex(4), TINY))


def test_distinct_draws_every_set_alike():
    """Chi-square over all 15 pairs out of 6, 6000 draws: 14 degrees of freedom stay below 36 but once in 1000."""
    keys = jax.random.split(jax.random.key(0), 6000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: distinct_positions(key, 2, jnp.int32(6))))(keys))
    counts = np.array([np.sum(np.all(drawn == pair, axis=1)) for pair in itertools.combinations(range(6), 2)])
    assert counts.sum() == 6000
    assert np.sum((counts - 400) ** 2 / 400) < 36


@pytest.mark.parametrize("t", [1, 2, 5])
def test_training_places(t):
    length, trained_len = 128, 32
    inner_T = jax.jit(random_factor, static_argnums=2)(jax.random.key(t), jnp.int32(t), length)
    assert np.all(np.diff(inner_T) > 0)
    assert inner_T[0] >= 0
    assert inner_T[-1] < length * t - 2
    place_T = train_positions(inner_T, jnp.int32(t), length, trained_len)
    assert (float(place_T[0]), float(place_T[-1])) == (0.0, length * t // 4 - 1)
    np.testing.assert_array_equal(place_T[1:-1] * 4, inner_T + 1)
    assert place_T[-2] < trained_len * t


def test_clex_trains_in_one_compiled_step():
    """t and the places come from the key inside jit; every t is drawn, and gradients reach the network."""
    method, cfg = clex(4, ode_steps=16), TINY
    assert isinstance(method.rope, ClexRope)
    ropes = jax.jit(jax.vmap(lambda key: method.rope(cfg, 64, trained_params(method, cfg), key)))(
        jax.random.split(jax.random.key(0), 64)
    )
    assert len(np.unique(ropes.inv_freq_R[:, -1])) == 4
    model, where = Llama(cfg, method, train=True), TokenPositions.whole(1, 64)
    tokens = jnp.arange(64, dtype=jnp.int32)[None] % 7
    params = jax.jit(lambda key: model.init(key, tokens, where, 64)["params"])(jax.random.key(0))

    def loss(params, key):
        return jnp.sum(model.apply({"params": params}, tokens, where, 64, key=key)[0] ** 3)

    grad = jax.jit(jax.grad(loss))
    down = np.stack([grad(params, jax.random.key(n))["method"]["down_PR"] for n in range(4)])
    assert np.any(down != 0)
    assert np.all(np.isfinite(down))
