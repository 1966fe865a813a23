"""Learning-rate schedules: step -> rate, with optax's signature. Steps count updates from 0 and may be traced.

Args of all: `peak` is the highest rate; `warmup` and `total` count updates. With `first` 0 the first update has rate 0,
as in Hugging Face and optax; with 1 it has peak / warmup.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def _float(step: jax.Array) -> jax.Array:
    return jnp.asarray(step).astype(jnp.float32)


def constant(peak: float, warmup: int = 0, first: int = 0) -> Schedule:
    """Linear warm-up, then constant (the recipe of arXiv:2409.12181)."""

    def schedule(step):
        return peak * jnp.minimum((_float(step) + first) / max(warmup, 1) if warmup else 1.0, 1.0)

    return schedule


def cosine(peak: float, total: int, warmup: int = 0, floor: float = 0.1, first: int = 0) -> Schedule:
    """Linear warm-up, then half a cosine down to `floor` * peak (ProLong: 0.1)."""

    def schedule(step):
        progress = jnp.clip((_float(step) - warmup) / max(total - warmup, 1), 0.0, 1.0)
        return constant(peak, warmup, first)(step) * (floor + (1 - floor) * 0.5 * (1 + jnp.cos(jnp.pi * progress)))

    return schedule


def linear(peak: float, total: int, warmup: int = 0, first: int = 0) -> Schedule:
    """Linear warm-up, then linear decay to 0 (Hugging Face's default; YaRN)."""

    def schedule(step):
        remaining = jnp.clip((total - _float(step)) / max(total - warmup, 1), 0.0, 1.0)
        return jnp.where(_float(step) < warmup, constant(peak, warmup, first)(step), peak * remaining)

    return schedule


def log_warmup(peak: float, warmup: int) -> Schedule:
    """DeepSpeed's WarmupLR: peak * ln(k) / ln(warmup), then `peak`.

    DeepSpeed's optimizer makes its first update before the schedule has started, hence at `peak`.
    """
    warmup = max(warmup, 2)

    def schedule(step):
        k = _float(step)
        fraction = jnp.log(jnp.maximum(k, 1.0)) / jnp.log(jnp.float32(warmup))
        return jnp.where(k == 0, peak, peak * jnp.minimum(fraction, 1.0))

    return schedule


def log_warmup_decay(peak: float, total: int, warmup: int) -> Schedule:
    """DeepSpeed's WarmupDecayLR, as in LCEG's released script: `log_warmup`, then linear decay to 0."""

    def schedule(step):
        remaining = jnp.clip((total - _float(step) + 1) / max(total - max(warmup, 2), 1), 0.0, 1.0)
        return jnp.where(_float(step) <= warmup, log_warmup(peak, warmup)(step), peak * remaining)

    return schedule
