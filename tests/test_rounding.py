import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.training.rounding import join_float32, round_stochastically, split_float32

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1.00390625, -1.00390625, 1.01171875, 1e-40, -1e-45, 3e38, float("inf"), -float("inf")]
RANDOM = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
NUMBERS = jnp.array(np.concatenate([SPECIAL, RANDOM[np.abs(RANDOM) < 3.3e38]]), jnp.float32)


def test_two_halves_are_exactly_the_whole():
    nearest, missing = split_float32(NUMBERS)
    assert (nearest.dtype, missing.dtype) == (jnp.bfloat16, jnp.uint16)
    assert (np.asarray(join_float32(nearest, missing)).view(np.uint32) == np.asarray(NUMBERS).view(np.uint32)).all()


def test_the_upper_half_is_the_nearest():
    nearest, _ = split_float32(NUMBERS)
    ours, theirs = (np.asarray(x, np.float64) for x in (nearest, NUMBERS.astype(jnp.bfloat16)))
    normal = np.abs(np.asarray(NUMBERS)) > 1e-37  # the backend flushes smaller ones to zero
    exact = np.asarray(NUMBERS, np.float64)[normal]
    with np.errstate(invalid="ignore"):  # infinity is as near to itself as can be
        off = np.nan_to_num(np.abs(ours[normal] - exact)), np.nan_to_num(np.abs(theirs[normal] - exact))
    assert (off[0] == off[1]).all()


@pytest.mark.parametrize("shape", [(), (4096,), (3, 64, 48)])
def test_rounding_at_random_keeps_the_mean(shape):
    """Every draw is a neighbor; the mean of 2,000 is within five standard errors (at most 0.5 / 2000**0.5 steps)."""
    x = jax.random.uniform(jax.random.key(1), shape, minval=1.0, maxval=2.0) * jnp.float32(-1)
    step = 2.0**-7  # between bfloat16 numbers from 1 to 2
    keys = jax.random.split(jax.random.key(2), 2000)
    total = jax.lax.map(lambda key: round_stochastically(x, key).astype(jnp.float32) - x, keys)
    assert np.abs(total).max() < step
    assert np.abs(np.asarray(total, np.float64).mean(0)).max() < 5 * step * 0.5 / 2000**0.5


def test_rounding_errors_of_any_two_elements_are_independent():
    x = jnp.full((8, 8), 1 + 2.0**-8, jnp.float32)  # halfway: up or down with even odds
    keys = jax.random.split(jax.random.key(3), 4000)
    ups = np.asarray(jax.vmap(lambda key: round_stochastically(x, key))(keys) > 1).reshape(4000, -1)
    correlation = np.corrcoef(ups.T) - np.eye(64)
    assert np.abs(correlation).max() < 5 / 4000**0.5


def test_bfloat16_numbers_stay_as_they_are():
    x = NUMBERS.astype(jnp.bfloat16)
    assert (round_stochastically(x.astype(jnp.float32), jax.random.key(0)) == x).all()
