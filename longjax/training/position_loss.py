"""Loss by position in the row, in P buckets whose edges double: shows whether a longer context lowers the loss."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

FIRST = 256  # positions of the first bucket


def bucket_edges(length: int) -> tuple[int, ...]:
    """Returns 0, 256, 512, ... and `length`: bucket p holds the positions of [edges[p], edges[p + 1])."""
    inner, edge = [], FIRST
    while edge < length:
        inner.append(edge)
        edge *= 2
    return (0, *inner, length)


def bucket_names(edges: Sequence[int]) -> list[str]:
    """Returns the names of the buckets in metrics, as loss@4096-8191."""
    return [f"loss@{lo}-{hi - 1}" for lo, hi in itertools.pairwise(edges)]


def bucket_sums(
    nll_BT: jax.Array, weights_BT: jax.Array, index_BT: jax.Array, edges: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """Returns sum_P of nll * weight, and weight_P. Those of a batch are the sums over its micro-batches.

    Each bucket is a masked sum, so that T may be split over devices.

    Args:
      nll_BT: negative log-likelihoods in nats.
      weights_BT: loss weights.
      index_BT: positions in the row.
      edges: of the buckets.

    """

    def sums(x_BT):
        in_bucket = [(lo <= index_BT) & (index_BT < hi) for lo, hi in itertools.pairwise(edges)]
        return jnp.stack([jnp.where(in_BT, x_BT, 0).sum() for in_BT in in_bucket])

    return sums(nll_BT * weights_BT), sums(weights_BT)


def bucket_means(sum_P: Sequence[float], weight_P: Sequence[float], edges: Sequence[int]) -> dict[str, float]:
    """Returns the mean loss by the bucket's name, without buckets of no weight."""
    buckets = zip(bucket_names(edges), sum_P, weight_P, strict=True)
    return {name: float(total) / float(weight) for name, total, weight in buckets if weight > 0}
