"""Paired bootstrap of differences of means over the same examples.

Axes: I examples, C clusters of them that are drawn together, M resamples.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

import numpy as np

RESAMPLES = 10_000
MAX_DRAWS = 4_000_000  # numbers drawn at once, so that large tasks fit in memory


@dataclasses.dataclass(frozen=True, eq=False)
class Paired:
    """Two means and their difference, b - a.

    Attributes:
      n: number of examples.
      clusters: number of groups of examples that are independent of each other.
      draws_M: the difference in each resample.

    """

    a: float
    b: float
    n: int
    clusters: int
    draws_M: np.ndarray

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the resamples."""
        low, high = np.quantile(self.draws_M, (0.025, 0.975))
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Return twice the share of resamples on the other side of 0; never 0, as resamples are finite."""
        below, above = ((side.sum() + 1) / (len(side) + 1) for side in (self.draws_M <= 0, self.draws_M >= 0))
        return float(min(1.0, 2 * min(below, above)))


def paired(
    a: Sequence[float],
    b: Sequence[float],
    weight: Sequence[float] | None = None,
    cluster: Sequence[Hashable] | None = None,
    transform: Callable[[np.ndarray], np.ndarray] = np.asarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Paired:
    """Return the difference of weighted means.

    Args:
      a: values of the examples in one run.
      b: values of the same examples in the other.
      weight: of examples; None: all weigh the same.
      cluster: examples of one cluster are drawn together; None: each is its own.
      transform: applied to means: np.exp makes perplexity of a loss.
      seed: of the resamples.
      resamples: their number.

    """
    weight_I = np.ones(len(a)) if weight is None else np.asarray(weight, np.float64)
    names = list(range(len(a))) if cluster is None else list(cluster)
    number = {name: c for c, name in enumerate(dict.fromkeys(names))}
    cluster_I = np.array([number[name] for name in names])
    sums = [np.bincount(cluster_I, weight_I * np.asarray(x, np.float64)) for x in (a, b)]
    size_C = np.bincount(cluster_I, weight_I)
    mean_a, mean_b = (transform(x.sum() / size_C.sum()) for x in sums)
    draws_M = _differences(sums[0], sums[1], size_C, transform, np.random.default_rng(seed), resamples)
    return Paired(float(mean_a), float(mean_b), len(a), len(number), draws_M)


def _differences(
    a_C: np.ndarray, b_C: np.ndarray, size_C: np.ndarray, transform: Callable, rng: np.random.Generator, resamples: int
) -> np.ndarray:
    """-> difference_M of means over clusters drawn with replacement."""
    count, parts = len(size_C), []
    step = max(1, MAX_DRAWS // count)
    for start in range(0, resamples, step):
        index = rng.integers(0, count, (min(step, resamples - start), count))
        size = size_C[index].sum(axis=1)
        parts.append(transform(b_C[index].sum(axis=1) / size) - transform(a_C[index].sum(axis=1) / size))
    return np.concatenate(parts)


def mean_of(parts: Sequence[Paired]) -> Paired:
    """Return the mean over tasks, each of the same weight and drawn independently."""
    a, b = (float(np.mean([getattr(part, side) for part in parts])) for side in "ab")
    draws_M = np.mean([part.draws_M for part in parts], axis=0)
    return Paired(a, b, sum(p.n for p in parts), sum(p.clusters for p in parts), draws_M)
