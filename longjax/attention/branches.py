"""The branches of attention: at which positions a branch scores the keys that its interval holds.

A method is a union of branches under one softmax. Which keys a query sees is in intervals.py. All classes are frozen,
so that equal settings are equal objects and compile once.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from longjax.attention.intervals import Causal, Interval

MaskFn = Callable[[jax.Array, jax.Array], jax.Array]  # (query index, key index) -> whether the query sees the key


class PositionMap(Protocol):
    """Maps a token's position to the one at which a branch rotates it. Both are float32; a frozen dataclass."""

    def __call__(self, position: jax.Array) -> jax.Array:
        """Return the mapped positions, in the shape of `position`."""
        ...


@dataclasses.dataclass(frozen=True)
class Identity:
    """p -> p."""

    def __call__(self, position):
        return position


@dataclasses.dataclass(frozen=True)
class Constant:
    """p -> `position`, the same for every token."""

    position: float

    def __call__(self, position):
        return jnp.full_like(position, self.position)


@dataclasses.dataclass(frozen=True)
class Grouped:
    """p -> floor(p / group) + shift: neighbors share a position."""

    group: int
    shift: float = 0.0

    def __call__(self, position):
        return jnp.floor(position / self.group) + self.shift


@dataclasses.dataclass(frozen=True)
class Interpolated:
    """p -> (p + shift) / factor."""

    factor: float
    shift: float = 0.0

    def __call__(self, position):
        return (position + self.shift) / self.factor


@dataclasses.dataclass(frozen=True)
class Clipped:
    """p -> min(p, limit)."""

    limit: float

    def __call__(self, position):
        return jnp.minimum(position, self.limit)


@dataclasses.dataclass(frozen=True)
class Modulo:
    """p -> min(p mod size + shift, limit): positions start again in every chunk."""

    size: int
    shift: float = 0.0
    limit: float = float("inf")

    def __call__(self, position):
        return jnp.minimum(jnp.mod(position, self.size) + self.shift, self.limit)


@dataclasses.dataclass(frozen=True)
class UnitScale:
    """Query scale 1."""

    def __call__(self, i):
        return jnp.ones_like(i, jnp.float32)


@dataclasses.dataclass(frozen=True)
class LogN:
    """Query scale max(1, ln(i + 1) / ln(base)) of the query at index i (Su's log-n scaling)."""

    base: float

    def __call__(self, i):
        return jnp.maximum(jnp.log(i.astype(jnp.float32) + 1) / jnp.log(jnp.float32(self.base)), 1.0)


@dataclasses.dataclass(frozen=True)
class Branch:
    """A set of pairs, and how they are scored. The branches of a method never overlap.

    Attributes:
      interval: the keys that each query sees.
      query_position: position at which queries are rotated.
      key_position: position at which keys are rotated.
      query_scale: factor of a query, as a function of its index in the document.
      mask: narrows the interval by any function of the two indices; the fastest kernels do not support it.

    """

    interval: Interval = Causal()
    query_position: PositionMap = Identity()
    key_position: PositionMap = Identity()
    query_scale: Callable[[jax.Array], jax.Array] = UnitScale()
    mask: MaskFn | None = None
