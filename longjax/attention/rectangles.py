"""Rectangles of the score matrix: the pairs that one call of a stock attention kernel can do."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Rectangle:
    """Queries [t, t + rows) against keys [s, s + cols), of rows of one document that begins at 0.

    Attributes:
      causal: row r of the rectangle sees column c if c <= r; else every column.
      window: and then only if r - window < c.
      count: number of such squares, each right below and right of the one before.
      heads: query heads [first, last) that this is for; None: all of them.

    """

    rows: int
    cols: int
    t: int = 0
    s: int = 0
    causal: bool = True
    window: int | None = None
    count: int = 1
    heads: tuple[int, int | None] = (0, None)

    def __post_init__(self):
        assert min(self.rows, self.cols) > 0
        assert self.count == 1 or self.rows == self.cols

    def slice_queries(self, x_BTNH: jax.Array) -> jax.Array:
        """Cut out the rectangle's queries, squares side by side in the batch: [B * count, rows, N, H]."""
        return fold(x_BTNH[:, self.t : self.t + self.count * self.rows], self.count)

    def slice_keys(self, x_BSKH: jax.Array) -> jax.Array:
        """Cut out the rectangle's keys, as `slice_queries` does."""
        return fold(x_BSKH[:, self.s : self.s + self.count * self.cols], self.count)

    def slice_query_statistics(self, x_BNT: jax.Array) -> jax.Array:
        """Cut out one number of each head and query, as `slice_queries` does."""
        B, N = x_BNT.shape[:2]
        x = x_BNT[:, :, self.t : self.t + self.count * self.rows]
        return x if self.count == 1 else jnp.moveaxis(x.reshape(B, N, self.count, -1), 2, 1).reshape(-1, N, self.rows)

    def scatter_queries(self, y: jax.Array, T: int) -> jax.Array:
        """Invert `slice_queries`; zero elsewhere."""
        return zero_pad(unfold(y, self.count), self.t, T)

    def scatter_keys(self, y: jax.Array, S: int) -> jax.Array:
        """Invert `slice_keys`; zero elsewhere."""
        return zero_pad(unfold(y, self.count), self.s, S)

    def scatter_query_statistics(self, y: jax.Array, T: int, fill: float) -> jax.Array:
        """Invert `slice_query_statistics`; `fill` elsewhere."""
        n, N = self.count, y.shape[1]
        y = y if n == 1 else jnp.moveaxis(y.reshape(-1, n, N, self.rows), 1, 2).reshape(-1, N, n * self.rows)
        after = T - self.t - y.shape[2]
        return jnp.pad(y, ((0, 0), (0, 0), (self.t, after)), constant_values=fill)

    def mask(self) -> jax.Array:
        """Return the pairs that are seen, booleans [rows, cols]."""
        if not self.causal:
            return jnp.ones((self.rows, self.cols), bool)
        distance = jnp.arange(self.rows)[:, None] - jnp.arange(self.cols)
        return (distance >= 0) & (distance < (self.window or self.rows))


def fold(x: jax.Array, count: int) -> jax.Array:
    """Move `count` equal pieces of the second axis into the batch."""
    return x.reshape(x.shape[0] * count, -1, *x.shape[2:])


def unfold(x: jax.Array, count: int) -> jax.Array:
    """Invert `fold`."""
    return x.reshape(x.shape[0] // count, -1, *x.shape[2:])


def zero_pad(x: jax.Array, before: int, total: int) -> jax.Array:
    """Add zeros before and after along the second axis, `total` long in the end."""
    return jnp.pad(x, ((0, 0), (before, total - before - x.shape[1]), (0, 0), (0, 0)))


def diagonal_squares(size: int, start: int, stop: int) -> tuple[Rectangle, ...]:
    """Return causal squares of `size` on the diagonal from `start` to `stop`; the last one may be smaller."""
    count, rest = divmod(stop - start, size)
    full = (Rectangle(size, size, start, start, count=count),) if count else ()
    return full + ((Rectangle(rest, rest, stop - rest, stop - rest),) if rest else ())
