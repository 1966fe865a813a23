"""The vocabulary of attention: where a token pretends to stand. Which keys a query sees is in intervals.py.

A method is a union of branches under one softmax. All classes are frozen, so that equal settings are equal objects
and compile once.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from longjax.attention.intervals import Causal, Interval

Mask = Callable[[jax.Array, jax.Array], jax.Array]  # (query index, key index) -> allowed?


class PositionMap(Protocol):
    """Where a token pretends to stand, as a float, given where it stands."""

    def __call__(self, place: jax.Array) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class Identity:
    def __call__(self, place):
        return place


@dataclasses.dataclass(frozen=True)
class Constant:
    """Every token at one place."""

    position: float

    def __call__(self, place):
        return jnp.full_like(place, self.position)


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Neighbours share a place: p -> floor(p / group) + shift."""

    group: int
    shift: float = 0.0

    def __call__(self, place):
        return jnp.floor(place / self.group) + self.shift


@dataclasses.dataclass(frozen=True)
class Interpolated:
    """p -> (p + shift) / factor."""

    factor: float
    shift: float = 0.0

    def __call__(self, place):
        return (place + self.shift) / self.factor


@dataclasses.dataclass(frozen=True)
class Clipped:
    """p -> min(p, most)."""

    limit: float

    def __call__(self, place):
        return jnp.minimum(place, self.limit)


@dataclasses.dataclass(frozen=True)
class Modulo:
    """p -> min(p mod size + shift, most): places start again in every chunk."""

    size: int
    shift: float = 0.0
    limit: float = float("inf")

    def __call__(self, place):
        return jnp.minimum(jnp.mod(place, self.size) + self.shift, self.limit)


@dataclasses.dataclass(frozen=True)
class UnitScale:
    """Queries keep their size."""

    def __call__(self, i):
        return jnp.ones_like(i, jnp.float32)


@dataclasses.dataclass(frozen=True)
class LogN:
    """Queries grow as max(1, ln(i + 1) / ln(base)) (Su's log-n scaling)."""

    base: float

    def __call__(self, i):
        return jnp.maximum(jnp.log(i.astype(jnp.float32) + 1) / jnp.log(jnp.float32(self.base)), 1.0)


@dataclasses.dataclass(frozen=True)
class Branch:
    """One way of scoring pairs: the keys each query sees, and where query and key pretend to stand.

    Branches of a method never overlap. `mask` narrows the interval further by any function of the two
    indices, for which the fastest kernels have no room.
    """

    interval: Interval = Causal()
    query_position: PositionMap = Identity()
    key_position: PositionMap = Identity()
    query_scale: Callable[[jax.Array], jax.Array] = UnitScale()
    mask: Mask | None = None
