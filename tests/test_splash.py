"""Splash attention gives the gradients of plain products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.kernels.reference import Reference
from longjax.attention.kernels.splash import Splash
from longjax.attention.rectangles import Rectangle

RECTANGLES = {
    "causal": Rectangle(512, 512),
    "window": Rectangle(512, 512, window=200),
    "all": Rectangle(256, 512, causal=False),
}


@pytest.mark.parametrize("rectangle", RECTANGLES.values(), ids=RECTANGLES)
def test_gradients(rectangle):
    """Against a softmax of which this rectangle is one part: its log-sum-exp is larger than the rectangle's own."""
    key = jax.random.split(jax.random.key(0), 4)
    q_BTNH, d_out_BTNH = (jax.random.normal(k, (1, rectangle.rows, 2, 128), jnp.float32) for k in key[:2])
    k_BSKH, v_BSKH = (jax.random.normal(k, (1, rectangle.cols, 2, 128), jnp.float32) for k in key[2:])
    splash, reference = Splash(128, 128, interpret=True), Reference()
    out_BTNH, lse_BNT = reference.forward(q_BTNH, k_BSKH, v_BSKH, rectangle, None)
    whole = (0.5 * out_BTNH, lse_BNT + 0.7)
    actual = splash.backward(q_BTNH, k_BSKH, v_BSKH, *whole, d_out_BTNH, rectangle, None)
    expected = reference.backward(q_BTNH, k_BSKH, v_BSKH, *whole, d_out_BTNH, rectangle, None)
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * float(jnp.abs(y).max()))  # float32, other orders of sums
