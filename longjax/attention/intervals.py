"""Which keys a query sees: in every branch one interval `lo <= j < hi`, so that kernels can skip what lies outside.

The dense mask follows from the same function. No [T, S] array is ever stored. `bands` says the same of whole rows in
rectangles, for kernels that must know before the run who sees whom; a new interval may say None.
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from longjax.attention.rectangles import Rectangle, squares

Rectangles = tuple[Rectangle, ...]


@dataclasses.dataclass(frozen=True)
class CacheRetention:
    """Which of the past tokens later queries may still see: all, the `last` so many, or the `first` so many."""

    last: int | None = None
    first: int | None = None

    def size(self, total: int) -> int:
        return min(total, *(n for n in (self.last, self.first) if n is not None), total)


class Interval(Protocol):
    """`i` is a query's index in its document, `head` a query head; both broadcast. -> (lo, hi)."""

    def __call__(self, i: jax.Array, head: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]: ...

    @property
    def retention(self) -> CacheRetention: ...

    @property
    def translation_invariant(self) -> bool:
        """Whether it asks for the distance alone: documents side by side need then no more than be kept apart."""
        ...

    def rectangles(self, length: int) -> Rectangles | None:
        """-> disjoint rectangles that make up all pairs of a row of `length` tokens."""
        ...


@dataclasses.dataclass(frozen=True)
class Causal:
    """Everything up to the query."""

    translation_invariant = True
    retention = CacheRetention()

    def __call__(self, i, head):
        return jnp.zeros_like(i), i + 1

    def rectangles(self, length):
        return (Rectangle(length, length),)


@dataclasses.dataclass(frozen=True)
class SlidingWindow:
    """The last `window` tokens, the query included."""

    window: int

    translation_invariant = True

    @property
    def retention(self):
        return CacheRetention(last=self.window)

    def __call__(self, i, head):
        return jnp.maximum(i - self.window + 1, 0), i + 1

    def rectangles(self, length):
        return (Rectangle(length, length, window=self.window if self.window < length else None),)


@dataclasses.dataclass(frozen=True)
class BeyondWindow:
    """Everything before `Near(window)`; with `first`, only so many tokens from the start."""

    window: int
    first: int | None = None

    @property
    def translation_invariant(self):
        return self.first is None

    @property
    def retention(self):
        return CacheRetention(first=self.first)

    def __call__(self, i, head):
        hi = jnp.maximum(i - self.window + 1, 0)
        return jnp.zeros_like(i), hi if self.first is None else jnp.minimum(hi, self.first)

    def rectangles(self, length):
        rows = length - self.window
        # As many columns as there are keys, so that kernels need no copy of some of them; those beyond nobody sees.
        return (
            (Rectangle(rows, length if self.first is None else min(rows, self.first), self.window),) if rows > 0 else ()
        )


@dataclasses.dataclass(frozen=True)
class DistanceRange:
    """The keys at distances `near` to `far` - 1."""

    near: int
    far: int

    translation_invariant = True

    @property
    def retention(self):
        return CacheRetention(last=self.far)

    def __call__(self, i, head):
        return jnp.maximum(i - self.far + 1, 0), jnp.maximum(i - self.near + 1, 0)

    def rectangles(self, length):
        rows, window = length - self.near, self.far - self.near
        return (Rectangle(rows, rows, self.near, window=window if window < rows else None),) if rows > 0 else ()


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What came before the query in its own chunk; chunks begin at `offset + n * size`, and the first at 0."""

    size: int
    offset: int = 0

    translation_invariant = False

    @property
    def retention(self):
        return CacheRetention(last=self.size)

    def __call__(self, i, head):
        return jnp.maximum((i - self.offset) // self.size * self.size + self.offset, 0), i + 1

    def rectangles(self, length):
        ahead = min(self.offset, length)
        return squares(max(ahead, 1), 0, ahead) + squares(self.size, ahead, length)


@dataclasses.dataclass(frozen=True)
class PreviousChunk:
    size: int

    translation_invariant = False

    @property
    def retention(self):
        return CacheRetention(last=2 * self.size)

    def __call__(self, i, head):
        hi = jnp.maximum(i // self.size * self.size, 0)
        return jnp.maximum(hi - self.size, 0), hi

    def rectangles(self, length):
        size, (whole, left) = self.size, divmod(length, self.size)
        full = (Rectangle(size, size, size, 0, causal=False, count=whole - 1),) if whole > 1 else ()
        last = (Rectangle(left, size, whole * size, (whole - 1) * size, causal=False),) if whole and left else ()
        return full + last


@dataclasses.dataclass(frozen=True)
class EarlierChunks:
    """Everything before `PreviousChunk(size)`."""

    size: int
    translation_invariant = False
    retention = CacheRetention()

    def __call__(self, i, head):
        return jnp.zeros_like(i), jnp.maximum(i // self.size * self.size - self.size, 0)

    def rectangles(self, length):
        size, begins = self.size, range(2 * self.size, length, self.size)
        return tuple(Rectangle(min(size, length - t), t - size, t, causal=False) for t in begins)


@dataclasses.dataclass(frozen=True)
class ShiftedChunks:
    """`Chunk(size)` for the first `plain` heads; for the others chunks that begin half a chunk later."""

    size: int
    plain: int

    translation_invariant = False

    @property
    def retention(self):
        return CacheRetention(last=self.size)

    def __call__(self, i, head):
        (lo, hi), (shifted, _) = Chunk(self.size)(i, head), Chunk(self.size, self.size // 2)(i, head)
        return jnp.where(head < self.plain, lo, shifted), hi

    def rectangles(self, length):
        parts = ((Chunk(self.size), (0, self.plain)), (Chunk(self.size, self.size // 2), (self.plain, None)))
        return tuple(
            dataclasses.replace(rectangle, heads=heads)
            for chunk, heads in parts
            for rectangle in chunk.rectangles(length)
        )


@dataclasses.dataclass(frozen=True)
class RolledChunksLeak:
    """The leak of a rolled S2: its heads from `plain` on see the last half chunk from the first. Not causal."""

    size: int
    plain: int
    length: int
    translation_invariant = False
    retention = CacheRetention()

    def __call__(self, i, head):
        leaks = (head >= self.plain) & (i >= 0) & (i < self.size // 2)  # -1 is padding
        return jnp.where(leaks, self.length - self.size // 2, 0), jnp.where(leaks, self.length, 0)

    def rectangles(self, length):
        half = self.size // 2
        return (Rectangle(half, half, 0, self.length - half, causal=False, heads=(self.plain, None)),)
