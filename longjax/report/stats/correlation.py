"""Correlations over few points, with bootstrap intervals. Axes: N points, M resamples."""

import dataclasses
import math

import numpy as np

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Correlation:
    """A coefficient, its 95 % interval over resampled points, and p of a permutation test.

    The interval is too narrow where few points stand in perfect order, since every resample does, too; p is not: of
    four points it is never below 0.08.
    """

    value: float
    low: float
    high: float
    n: int
    p: float

    @property
    def sign(self) -> int:
        """Return the sign of the coefficient where interval and p are significant, else 0."""
        significant = self.p < 0.05 and (self.low > 0 or self.high < 0)
        return (1 if self.value > 0 else -1) if significant else 0

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def pearson(x_N: np.ndarray, y_N: np.ndarray) -> Correlation | None:
    """Return Pearson's r; None for fewer than four points, or if all have one value."""
    return _correlation(x_N, y_N)


def spearman(x_N: np.ndarray, y_N: np.ndarray) -> Correlation | None:
    """Return Spearman's rho, Pearson's r of the ranks; the ranks of all points are what is resampled."""
    return _correlation(ranks(x_N), ranks(y_N))


def _correlation(x_N: np.ndarray, y_N: np.ndarray, seed: int = 0) -> Correlation | None:
    if len(x_N) < 4 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return None
    index_MN = np.random.default_rng(seed).integers(0, len(x_N), (RESAMPLES, len(x_N)))
    value_M = _coefficient(x_N[index_MN], y_N[index_MN])
    low, high = np.nanquantile(value_M, (0.025, 0.975))  # a resample of one point alone has none
    value = float(_coefficient(x_N, y_N))
    return Correlation(value, float(low), float(high), len(x_N), _permutation_p(x_N, y_N, value, seed))


def _permutation_p(x_N: np.ndarray, y_N: np.ndarray, value: float, seed: int) -> float:
    """-> the share of orders of y in which the coefficient is at least as far from 0; never 0."""
    shuffled_MN = np.random.default_rng(seed).permuted(np.tile(y_N, (RESAMPLES, 1)), axis=1)
    far = np.abs(_coefficient(np.broadcast_to(x_N, shuffled_MN.shape), shuffled_MN)) >= abs(value) - 1e-9
    return float((far.sum() + 1) / (RESAMPLES + 1))


def _coefficient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """-> Pearson's, along the last axis; NaN where one side does not vary."""
    x, y = (z - z.mean(axis=-1, keepdims=True) for z in (x, y))
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.where(scale > 1e-12, (x * y).sum(axis=-1) / np.maximum(scale, 1e-12), math.nan)


def ranks(x: np.ndarray) -> np.ndarray:
    """Return ranks from 0; ties share their mean."""
    return np.array([((x < v).sum() + (x <= v).sum() - 1) / 2 for v in x])
