"""CLEX: frequencies as the solution of a learned differential equation in the factor t of the extension.

Chen et al. 2023, arXiv:2310.16450; equations 12 and 13 of arXiv:2409.12181. With n(t) the frequencies of dynamic
NTK (alpha = 2t - 1): d log f / dt = act((log f + log n) @ up) @ down + d log n / dt, from f(1) = n(1).
Axes beside those of rope.py: P hidden units, I = T - 2 tokens between the two ends.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from longjax.attention.rope import Rope, inv_freq
from longjax.config import ModelConfig
from longjax.methods.identity import identified
from longjax.methods.method import Method
from longjax.methods.ntk import ntk_inv_freq

Slope = Callable[[jax.Array, jax.Array], jax.Array]  # (t, y) -> dy / dt
Net = Callable[[jax.Array], jax.Array]  # log f + log n -> act(it @ up) @ down
ACTS = {"silu": jax.nn.silu, "tanh": jnp.tanh}


class Solve(Protocol):
    """A solver of the differential equation."""

    def __call__(self, net: Net, cfg: ModelConfig, t: jax.Array, max_factor: int) -> jax.Array:
        """Returns inv_freq_R at the integer `t` (an array), 1 <= t <= max_factor."""
        ...


def rk4(slope: Slope, t: jax.Array, y: jax.Array, h: jax.Array | float) -> jax.Array:
    """Returns y after one step of size h by Kutta's 3/8 rule, which torchdiffeq calls rk4."""
    k1 = slope(t, y)
    k2 = slope(t + h / 3, y + h * k1 / 3)
    k3 = slope(t + h * 2 / 3, y + h * (k2 - k1 / 3))
    k4 = slope(t + h, y + h * (k1 - k2 + k3))
    return y + h * (k1 + 3 * (k2 + k3) + k4) / 8


def ntk_fraction(cfg: ModelConfig) -> jax.Array:
    """Returns fraction_R: 2r / rotary_dim of each rotary pair r."""
    return jnp.asarray(np.arange(0, cfg.rotary_dim, 2) / cfg.rotary_dim, jnp.float32)


def log_ntk(cfg: ModelConfig, t: jax.Array) -> jax.Array:
    """Returns log n(t) of each rotary pair, R of them: the log-frequencies of dynamic NTK with alpha 2t - 1."""
    grown = cfg.rotary_dim / (cfg.rotary_dim - 2)
    return -ntk_fraction(cfg) * (math.log(cfg.rope_base) + grown * jnp.log(2 * t - 1))


def log_ntk_slope(cfg: ModelConfig, t: jax.Array) -> jax.Array:
    """Returns d log n / dt of each rotary pair, R of them."""
    return -2 * ntk_fraction(cfg) * cfg.rotary_dim / (cfg.rotary_dim - 2) / (2 * t - 1)


def log_slope(net: Net, cfg: ModelConfig, t: jax.Array, x_R: jax.Array) -> jax.Array:
    """Returns d log f / dt where log f is `x_R`: the equation as published."""
    return net(log_ntk(cfg, t) + x_R) + log_ntk_slope(cfg, t)


@dataclasses.dataclass(frozen=True)
class Departure:
    """Solves for u = log f - log n in equal steps, so that only the learned departure from NTK has a solver's error.

    The number of steps is static, so `t` may be traced; t = 1 gives u = 0 and no gradient.
    """

    steps: int

    def __call__(self, net, cfg, t, max_factor):
        h = (t - 1).astype(jnp.float32) / self.steps

        def slope(t, u_R):
            return net(2 * log_ntk(cfg, t) + u_R)

        def step(i, u_R):
            return rk4(slope, 1 + i.astype(jnp.float32) * h, u_R, h)

        u_R = jax.lax.fori_loop(0, self.steps, step, jnp.zeros(cfg.rotary_dim // 2, jnp.float32))
        known_TR = np.stack([ntk_inv_freq(cfg, 2 * n - 1) for n in range(1, max_factor + 1)])
        return jnp.asarray(known_TR, jnp.float32)[t - 1] * jnp.exp(u_R)


@dataclasses.dataclass(frozen=True)
class PeerGrid:
    """Solves for log f as the released code: in steps of 1 / per_unit up to max_factor, and reads it off at t."""

    per_unit: int = 100

    def __call__(self, net, cfg, t, max_factor):
        plain_R = jnp.asarray(inv_freq(cfg), jnp.float32)

        def slope(t, x_R):
            return log_slope(net, cfg, t, x_R)

        def unit(x_R, n):
            def step(i, x_R):
                return rk4(slope, n + i.astype(jnp.float32) / self.per_unit, x_R, 1 / self.per_unit)

            x_R = jax.lax.fori_loop(0, self.per_unit, step, x_R)
            return x_R, x_R

        log_plain_R = jnp.log(plain_R)
        _, log_TR = jax.lax.scan(unit, log_plain_R, jnp.arange(1, max_factor, dtype=jnp.float32))
        return jnp.where(t == 1, plain_R, jnp.exp(jnp.concatenate([log_plain_R[None], log_TR])[t - 1]))


def distinct_positions(key: jax.Array, count: int, bound: jax.Array) -> jax.Array:
    """Returns drawn_I: a uniformly drawn set of `count` integers of [0, bound), sorted; count <= bound / 2.

    Duplicates are drawn again until there are none. All integers are treated alike, so that every set is equally
    likely; as half of them are free, about fifteen rounds suffice for a million. Memory is O(count).
    """

    def clashes(drawn_I):
        return jnp.concatenate([jnp.zeros(1, bool), drawn_I[1:] == drawn_I[:-1]])

    def again(state):
        key, drawn_I = state
        key, now = jax.random.split(key)
        fresh_I = jax.random.randint(now, (count,), 0, bound, jnp.int32)
        return key, jnp.sort(jnp.where(clashes(drawn_I), fresh_I, drawn_I))

    key, first = jax.random.split(key)
    drawn_I = jnp.sort(jax.random.randint(first, (count,), 0, bound, jnp.int32))
    return jax.lax.while_loop(lambda state: jnp.any(clashes(state[1])), again, (key, drawn_I))[1]


def train_positions(inner_I: jax.Array, t: jax.Array, length: int, trained_len: int) -> jax.Array:
    """Returns position_T: both ends of the stretched sequence of t * length positions, and the drawn ones between."""
    stretch = max(1, length // trained_len)
    position_I = (inner_I + 1).astype(jnp.float32) / stretch
    last = (length * t // stretch - 1).astype(jnp.float32)  # as the released code; below its neighbor if stretch > 2
    return jnp.concatenate([jnp.zeros(1, jnp.float32), position_I, last[None]])


def random_factor(key: jax.Array, t: jax.Array, length: int) -> jax.Array:
    """Returns inner_I: the positions of the tokens between both ends; all of them where t = 1."""
    drawn_I = distinct_positions(key, length - 2, jnp.maximum(t, 2) * length - 2)
    return jnp.where(t == 1, jnp.arange(length - 2, dtype=jnp.int32), drawn_I)


@dataclasses.dataclass(frozen=True)
class ClexRope:
    """Frequencies of the learned equation, at a random factor in training and at ceil(length / C) after it."""

    max_factor: int
    act: Literal["silu", "tanh"]
    log_scale: bool
    solve: Solve

    @functools.partial(jax.jit, static_argnums=(0, 1))  # one compilation for all lengths
    def inv_freq(self, cfg: ModelConfig, method_params: dict[str, Any], t: jax.Array) -> jax.Array:
        """Returns inv_freq_R at the integer t."""
        return self.solve(self.net(method_params), cfg, t, self.max_factor)

    def net(self, method_params: dict[str, Any]) -> Net:
        """Returns the learned network as a function of log f + log n."""
        up_RP, down_PR = method_params["up_RP"].astype(jnp.float32), method_params["down_PR"].astype(jnp.float32)

        def net(x_R):
            hidden_P = ACTS[self.act](jnp.matmul(x_R, up_RP, precision="highest"))
            return jnp.matmul(hidden_P, down_PR, precision="highest")

        return net

    def train(
        self, cfg: ModelConfig, method_params: dict[str, Any], t: jax.Array, length: int, inner_I: jax.Array
    ) -> Rope:
        """Returns the frequencies and positions of a training step for the drawn factor and positions."""
        position_T = train_positions(inner_I, t, length, cfg.trained_len)
        return Rope(self.inv_freq(cfg, method_params, t), position_BT=position_T[None])

    def __call__(self, cfg, length, method_params, key):
        if key is not None:
            key_t, key_positions = jax.random.split(key)
            t = jax.random.randint(key_t, (), 1, self.max_factor + 1, jnp.int32)
            return self.train(cfg, method_params, t, length, random_factor(key_positions, t, length))
        t = math.ceil(length / cfg.trained_len)
        if t > self.max_factor:
            limit = self.max_factor * cfg.trained_len
            raise ValueError(f"--max_factor={self.max_factor} ends at {limit} tokens: a sequence of {length} needs {t}")
        scale = math.log(length) / math.log(cfg.trained_len) if self.log_scale else 1.0
        return Rope(self.inv_freq(cfg, method_params, jnp.asarray(t, jnp.int32)), query_scale=scale)


@dataclasses.dataclass(frozen=True)
class ClexInit:
    """Initializes the two matrices of the network, the second to zero: untrained CLEX is dynamic NTK."""

    param_factor: int

    def __call__(self, key, cfg):
        width = self.param_factor * cfg.rotary_dim
        bound = width**-0.5
        up_RP = jax.random.uniform(key, (cfg.rotary_dim // 2, width), jnp.float32, -bound, bound)
        return {"up_RP": up_RP, "down_PR": jnp.zeros((width, cfg.rotary_dim // 2), jnp.float32)}


@identified
def clex(
    max_factor: int = 32,  # largest factor of the extension; longer sequences are an error
    act: Literal["silu", "tanh"] = "silu",  # activation of the network
    param_factor: int = 1,  # hidden units of the network, as a multiple of the rotary dimension
    log_scale: bool = True,  # multiply queries by ln(length) / ln(trained length), in evaluation only
    ode_steps: int = 256,  # steps of the solver
) -> Method:
    """CLEX: learned frequencies for every integer factor up to `max_factor`."""
    return Method(rope=ClexRope(max_factor, act, log_scale, Departure(ode_steps)), init_params=ClexInit(param_factor))


@identified
def clex_rk4_peer(
    max_factor: int = 32,  # largest factor of the extension; longer sequences are an error
    act: Literal["silu", "tanh"] = "silu",  # activation of the network
    param_factor: int = 1,  # hidden units of the network, as a multiple of the rotary dimension
    log_scale: bool = True,  # multiply queries by ln(length) / ln(trained length), in evaluation only
) -> Method:
    """CLEX with the solver of the released code, step by step: an audit, slower and less exact."""
    return Method(rope=ClexRope(max_factor, act, log_scale, PeerGrid()), init_params=ClexInit(param_factor))
