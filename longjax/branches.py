"""The vocabulary of attention: where a token stands, and which interval of keys a query sees.

A method is a union of branches under one softmax. Every query sees one interval `lo <= j < hi` of keys a
branch, so that kernels can skip what lies outside; the dense mask follows from the same function. No [T, S]
array is ever stored. All classes are frozen, so that equal settings are equal objects and compile once.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

Mask = Callable[[jax.Array, jax.Array], jax.Array]  # (query index, key index) -> allowed?


class Place(Protocol):
    """Where a token pretends to stand, as a float, given where it stands."""

    def __call__(self, place: jax.Array) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class Kept:
    """Which of the past tokens later queries may still see: all, the `last` so many, or the `first` so many."""

    last: int | None = None
    first: int | None = None

    def size(self, total: int) -> int:
        return min(total, *(n for n in (self.last, self.first) if n is not None), total)


class Interval(Protocol):
    """`i` is a query's index in its document, `head` a query head; both broadcast. -> (lo, hi)."""

    def __call__(self, i: jax.Array, head: jax.Array) -> tuple[jax.Array, jax.Array]: ...

    @property
    def kept(self) -> Kept: ...


@dataclasses.dataclass(frozen=True)
class Here:
    def __call__(self, place):
        return place


@dataclasses.dataclass(frozen=True)
class At:
    """Every token at one place."""

    place: float

    def __call__(self, place):
        return jnp.full_like(place, self.place)


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Neighbours share a place: p -> floor(p / group) + shift."""

    group: int
    shift: float = 0.0

    def __call__(self, place):
        return jnp.floor(place / self.group) + self.shift


@dataclasses.dataclass(frozen=True)
class Squeezed:
    """p -> (p + shift) / factor."""

    factor: float
    shift: float = 0.0

    def __call__(self, place):
        return (place + self.shift) / self.factor


@dataclasses.dataclass(frozen=True)
class Capped:
    """p -> min(p, most)."""

    most: float

    def __call__(self, place):
        return jnp.minimum(place, self.most)


@dataclasses.dataclass(frozen=True)
class Modulo:
    """p -> min(p mod size + shift, most): places start again in every chunk."""

    size: int
    shift: float = 0.0
    most: float = float("inf")

    def __call__(self, place):
        return jnp.minimum(jnp.mod(place, self.size) + self.shift, self.most)


@dataclasses.dataclass(frozen=True)
class Causal:
    """Everything up to the query."""

    kept = Kept()

    def __call__(self, i, head):
        return jnp.zeros_like(i), i + 1


@dataclasses.dataclass(frozen=True)
class Near:
    """The last `window` tokens, the query included."""

    window: int

    @property
    def kept(self):
        return Kept(last=self.window)

    def __call__(self, i, head):
        return jnp.maximum(i - self.window + 1, 0), i + 1


@dataclasses.dataclass(frozen=True)
class Far:
    """Everything before `Near(window)`; with `first`, only so many tokens from the start."""

    window: int
    first: int | None = None

    @property
    def kept(self):
        return Kept(first=self.first)

    def __call__(self, i, head):
        hi = jnp.maximum(i - self.window + 1, 0)
        return jnp.zeros_like(i), hi if self.first is None else jnp.minimum(hi, self.first)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What came before the query in its own chunk; chunks begin at `offset + n * size`, and the first at 0."""

    size: int
    offset: int = 0

    @property
    def kept(self):
        return Kept(last=self.size)

    def __call__(self, i, head):
        return jnp.maximum((i - self.offset) // self.size * self.size + self.offset, 0), i + 1


@dataclasses.dataclass(frozen=True)
class PreviousChunk:
    size: int

    @property
    def kept(self):
        return Kept(last=2 * self.size)

    def __call__(self, i, head):
        hi = jnp.maximum(i // self.size * self.size, 0)
        return jnp.maximum(hi - self.size, 0), hi


@dataclasses.dataclass(frozen=True)
class EarlierChunks:
    """Everything before `PreviousChunk(size)`."""

    size: int
    kept = Kept()

    def __call__(self, i, head):
        return jnp.zeros_like(i), jnp.maximum(i // self.size * self.size - self.size, 0)


@dataclasses.dataclass(frozen=True)
class HalfShifted:
    """`Chunk(size)` for the first `plain` heads; for the others chunks that begin half a chunk later."""

    size: int
    plain: int

    @property
    def kept(self):
        return Kept(last=self.size)

    def __call__(self, i, head):
        (lo, hi), (shifted, _) = Chunk(self.size)(i, head), Chunk(self.size, self.size // 2)(i, head)
        return jnp.where(head < self.plain, lo, shifted), hi


@dataclasses.dataclass(frozen=True)
class WrappedHalf:
    """The leak of a rolled S2: its heads from `plain` on see the last half chunk from the first. Not causal."""

    size: int
    plain: int
    length: int
    kept = Kept()

    def __call__(self, i, head):
        leaks = (head >= self.plain) & (i >= 0) & (i < self.size // 2)  # -1 is padding
        return jnp.where(leaks, self.length - self.size // 2, 0), jnp.where(leaks, self.length, 0)


@dataclasses.dataclass(frozen=True)
class Same:
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
    indices; it runs on the dense and blockwise back ends only, as no fast kernel knows it.
    """

    sees: Interval = Causal()
    query_at: Place = Here()
    key_at: Place = Here()
    query_scale: Callable[[jax.Array], jax.Array] = Same()
    mask: Mask | None = None
