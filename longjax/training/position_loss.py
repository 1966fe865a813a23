"""Loss by position in the row: does the model use what it gained in length? P buckets, whose bounds double."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

FIRST = 256  # positions of the first bucket


def bucket_edges(length: int) -> tuple[int, ...]:
    """-> 0, 256, 512, ... and `length`: bucket p is [edges[p], edges[p + 1])."""
    inner, edge = [], FIRST
    while edge < length:
        inner.append(edge)
        edge *= 2
    return (0, *inner, length)


def bucket_names(edges: Sequence[int]) -> list[str]:
    """-> what the buckets are called in logs: loss@4096-8191."""
    return [f"loss@{lo}-{hi - 1}" for lo, hi in itertools.pairwise(edges)]


def by_position(
    nll_BT: jax.Array, weights_BT: jax.Array, index_BT: jax.Array, edges: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """-> sum_P of nll * weight, weight_P. Sums over parts of a batch, in any order, give those of the whole.

    A masked sum for each bucket: T may be split over devices, and every one adds up what it holds.
    """

    def sums(x_BT):
        inside = [(lo <= index_BT) & (index_BT < hi) for lo, hi in itertools.pairwise(edges)]
        return jnp.stack([jnp.where(here_BT, x_BT, 0).sum() for here_BT in inside])

    return sums(nll_BT * weights_BT), sums(weights_BT)


def bucket_means(sum_P: Sequence[float], weight_P: Sequence[float], edges: Sequence[int]) -> dict[str, float]:
    """-> loss by the bucket's name; without those that have no weight."""
    every = zip(bucket_names(edges), sum_P, weight_P, strict=True)
    return {name: float(total) / float(weight) for name, total, weight in every if weight > 0}
