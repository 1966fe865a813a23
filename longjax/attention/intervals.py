"""The keys that a query sees: in every branch one interval `lo <= j < hi`, so that kernels can skip what lies outside.

The dense mask follows from the same function, and no [T, S] array is ever stored. `rectangles` gives the same pairs for
kernels that must know before the run who sees whom; a new interval may return None there.
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from longjax.attention.rectangles import Rectangle, diagonal_squares

Rectangles = tuple[Rectangle, ...]


@dataclasses.dataclass(frozen=True)
class CacheRetention:
    """The tokens that a cache must retain: all, the last `last`, or the first `first`."""

    last: int | None = None
    first: int | None = None

    def size(self, total: int) -> int:
        """Return the number of cache slots for rows of `total` tokens."""
        return min(total, *(n for n in (self.last, self.first) if n is not None), total)


class Interval(Protocol):
    """The keys that a query sees, [lo, hi). A frozen dataclass."""

    def __call__(self, i: jax.Array, head: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Return lo and hi, indices in the document.

        Args:
          i: index of the query in its document; -1 is padding, which sees nothing.
          head: number of the query head; `i` and `head` broadcast.

        """
        ...

    @property
    def retention(self) -> CacheRetention:
        """The tokens that later queries may still see."""
        ...

    @property
    def translation_invariant(self) -> bool:
        """Whether the distance alone decides: packed documents then need only be kept apart."""
        ...

    def rectangles(self, length: int) -> Rectangles | None:
        """Return disjoint rectangles that make up all pairs of a row of `length` tokens, if there are such."""
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
    """Everything before `SlidingWindow(window)`; with `first`, only the first `first` tokens of the document."""

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
        if rows <= 0:
            return ()
        # As many columns as there are keys, so that kernels need no copy of some of them; those beyond are unseen.
        return (Rectangle(rows, length if self.first is None else min(rows, self.first), self.window),)


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
        if rows <= 0:
            return ()
        return (Rectangle(rows, rows, self.near, window=window if window < rows else None),)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The query's own chunk, up to the query. Chunks begin at `offset + n * size`, and the first at 0."""

    size: int
    offset: int = 0

    translation_invariant = False

    @property
    def retention(self):
        return CacheRetention(last=self.size)

    def __call__(self, i, head):
        return jnp.maximum((i - self.offset) // self.size * self.size + self.offset, 0), i + 1

    def rectangles(self, length):
        first = min(self.offset, length)  # length of the first chunk
        return diagonal_squares(max(first, 1), 0, first) + diagonal_squares(self.size, first, length)


@dataclasses.dataclass(frozen=True)
class PreviousChunk:
    """The whole chunk before the query's own."""

    size: int

    translation_invariant = False

    @property
    def retention(self):
        return CacheRetention(last=2 * self.size)

    def __call__(self, i, head):
        hi = jnp.maximum(i // self.size * self.size, 0)
        return jnp.maximum(hi - self.size, 0), hi

    def rectangles(self, length):
        size, (count, rest) = self.size, divmod(length, self.size)
        full = (Rectangle(size, size, size, 0, causal=False, count=count - 1),) if count > 1 else ()
        last = (Rectangle(rest, size, count * size, (count - 1) * size, causal=False),) if count and rest else ()
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
        size, starts = self.size, range(2 * self.size, length, self.size)
        return tuple(Rectangle(min(size, length - t), t - size, t, causal=False) for t in starts)


@dataclasses.dataclass(frozen=True)
class ShiftedChunks:
    """`Chunk(size)` for the first `unshifted_heads` heads; for the others, chunks that begin half a chunk later."""

    size: int
    unshifted_heads: int

    translation_invariant = False

    @property
    def retention(self):
        return CacheRetention(last=self.size)

    def __call__(self, i, head):
        (lo, hi), (shifted, _) = Chunk(self.size)(i, head), Chunk(self.size, self.size // 2)(i, head)
        return jnp.where(head < self.unshifted_heads, lo, shifted), hi

    def rectangles(self, length):
        n = self.unshifted_heads
        groups = ((Chunk(self.size), (0, n)), (Chunk(self.size, self.size // 2), (n, None)))
        return tuple(
            dataclasses.replace(rectangle, heads=heads)
            for chunk, heads in groups
            for rectangle in chunk.rectangles(length)
        )


@dataclasses.dataclass(frozen=True)
class RolledChunksLeak:
    """The leak of a rolled S2: heads from `unshifted_heads` on see the last half chunk from the first. Not causal."""

    size: int
    unshifted_heads: int
    length: int
    translation_invariant = False
    retention = CacheRetention()

    def __call__(self, i, head):
        leaks = (head >= self.unshifted_heads) & (i >= 0) & (i < self.size // 2)  # -1 is padding
        return jnp.where(leaks, self.length - self.size // 2, 0), jnp.where(leaks, self.length, 0)

    def rectangles(self, length):
        half = self.size // 2
        return (Rectangle(half, half, 0, self.length - half, causal=False, heads=(self.unshifted_heads, None)),)
