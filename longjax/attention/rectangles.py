"""Rectangles of the score matrix: what one call of a stock attention kernel can do."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Rectangle:
    """Queries [t, t + rows) against keys [s, s + cols), of rows of one document that begins at 0.

    Attributes:
      causal: row r of the rectangle sees column c if c <= r; else every column.
      window: and then only if r - window < c.
      count: so many such squares, each right below and right of the one before.
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

    def queries(self, x_BTNH: jax.Array) -> jax.Array:
        """-> the rectangle's queries, squares side by side in the batch: [B * count, rows, N, H]."""
        return fold(x_BTNH[:, self.t : self.t + self.count * self.rows], self.count)

    def keys(self, x_BSKH: jax.Array) -> jax.Array:
        return fold(x_BSKH[:, self.s : self.s + self.count * self.cols], self.count)

    def select_queries(self, x_BNT: jax.Array) -> jax.Array:
        """The same as `queries`, for numbers of each head and query."""
        B, N = x_BNT.shape[:2]
        x = x_BNT[:, :, self.t : self.t + self.count * self.rows]
        return x if self.count == 1 else jnp.moveaxis(x.reshape(B, N, self.count, -1), 2, 1).reshape(-1, N, self.rows)

    def back_to_queries(self, y: jax.Array, T: int) -> jax.Array:
        """The inverse of `queries`, zero elsewhere."""
        return padded(unfold(y, self.count), self.t, T)

    def back_to_keys(self, y: jax.Array, S: int) -> jax.Array:
        return padded(unfold(y, self.count), self.s, S)

    def back_of_queries(self, y: jax.Array, T: int, fill: float) -> jax.Array:
        """The inverse of `of_queries`."""
        n, N = self.count, y.shape[1]
        y = y if n == 1 else jnp.moveaxis(y.reshape(-1, n, N, self.rows), 1, 2).reshape(-1, N, n * self.rows)
        behind = T - self.t - y.shape[2]
        return jnp.pad(y, ((0, 0), (0, 0), (self.t, behind)), constant_values=fill)

    def seen(self) -> jax.Array:
        """-> booleans [rows, cols]."""
        if not self.causal:
            return jnp.ones((self.rows, self.cols), bool)
        ahead = jnp.arange(self.rows)[:, None] - jnp.arange(self.cols)
        return (ahead >= 0) & (ahead < (self.window or self.rows))


def fold(x: jax.Array, count: int) -> jax.Array:
    return x.reshape(x.shape[0] * count, -1, *x.shape[2:])


def unfold(x: jax.Array, count: int) -> jax.Array:
    return x.reshape(x.shape[0] // count, -1, *x.shape[2:])


def padded(x: jax.Array, before: int, total: int) -> jax.Array:
    """Zeros before and behind along the second axis."""
    return jnp.pad(x, ((0, 0), (before, total - before - x.shape[1]), (0, 0), (0, 0)))


def squares(size: int, start: int, end: int) -> tuple[Rectangle, ...]:
    """-> causal squares of `size` on the diagonal from `start` to `end`, the last one as large as is left."""
    count, left = divmod(end - start, size)
    whole = (Rectangle(size, size, start, start, count=count),) if count else ()
    return whole + ((Rectangle(left, left, end - left, end - left),) if left else ())
