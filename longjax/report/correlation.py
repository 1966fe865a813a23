"""Correlations over few points, with bootstrap intervals. Letters: N points, M resamples."""

import dataclasses
import math

import numpy as np

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Correlation:
    """A coefficient and its 95 % interval over resampled points."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def pearson(x_N: np.ndarray, y_N: np.ndarray) -> Correlation | None:
    return correlation(x_N, y_N)


def spearman(x_N: np.ndarray, y_N: np.ndarray) -> Correlation | None:
    """Pearson's of the ranks; resampled are the ranks of all points."""
    return correlation(ranks(x_N), ranks(y_N))


def correlation(x_N: np.ndarray, y_N: np.ndarray, seed: int = 0) -> Correlation | None:
    """None for fewer than four points, or if all have one value."""
    if len(x_N) < 4 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return None
    index_MN = np.random.default_rng(seed).integers(0, len(x_N), (RESAMPLES, len(x_N)))
    value_M = coefficient(x_N[index_MN], y_N[index_MN])
    low, high = np.nanquantile(value_M, (0.025, 0.975))  # a resample of one point alone has none
    return Correlation(float(coefficient(x_N, y_N)), float(low), float(high), len(x_N))


def coefficient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """-> Pearson's, along the last axis; NaN where one side does not vary."""
    x, y = (z - z.mean(axis=-1, keepdims=True) for z in (x, y))
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.where(scale > 1e-12, (x * y).sum(axis=-1) / np.maximum(scale, 1e-12), math.nan)


def ranks(x: np.ndarray) -> np.ndarray:
    """-> ranks; ties share their mean."""
    return np.array([((x < v).sum() + (x <= v).sum() - 1) / 2 for v in x])
