"""Perplexity by length and loss by position, on the same tokens at every length.

Each window of the longest length is cut into windows of the shorter ones, so that lengths differ in context
and not in text. Letters: I windows, J windows of the longest length, T tokens, U = T - 1 predictions.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from longjax.data import Store
from longjax.evals.task import Record, Score, finite, in_batches


@dataclasses.dataclass(frozen=True, eq=False)
class Perplexity:
    """exp of the mean loss of all predictions in all windows; the standard error is that over the longest windows.

    Attributes:
      text_JT: windows of the longest length.
      lengths: to measure at.
      buckets: of positions, on the longest windows.
      most: tokens of one call of the model.

    """

    text_JT: np.ndarray
    lengths: Sequence[int]
    buckets: int = 32
    most: int = 16_384
    name = "perplexity"

    def __call__(self, score: Score, length: int) -> list[Record]:
        count = self.text_JT.shape[1] // length
        tokens_IT = self.text_JT[:, : count * length].reshape(-1, length)
        nll_IT, _ = in_batches(score, tokens_IT, self.most)
        record = perplexity(nll_IT[:, 1:], cluster=count) | {"task": self.name, "length": length}
        by_place = positions(nll_IT[:, 1:], self.buckets) if length == max(self.lengths) else []
        return [record, *({"task": "position_nll", "length": length} | r for r in by_place)]


def windows(store: Store, lengths: Sequence[int], count: int = 16, split: str = "test") -> np.ndarray:
    """-> text_JT: `count` windows of the longest length, none across documents, spread over all of them."""
    longest = max(lengths)
    every = [d[i : i + longest] for d in store.documents(split) for i in range(0, len(d) - longest + 1, longest)]
    if len(every) < 2:
        raise ValueError(f"the {split} split has {len(every)} stretches of {longest} tokens: it needs longer documents")
    chosen = np.unique(np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int))
    return np.stack([every[i] for i in chosen]).astype(np.int32)


def perplexity(nll_IU: np.ndarray, cluster: int) -> Record:
    """-> value, stderr, mean loss. Windows with a loss that is not finite are left out, and counted in `nan`.

    `cluster` neighbouring windows are one piece of text, and only pieces are independent.
    """
    loss_I = nll_IU.mean(axis=1)
    good_I = np.isfinite(loss_I)
    pieces = [float(x[np.isfinite(x)].mean()) if np.isfinite(x).any() else np.nan for x in loss_I.reshape(-1, cluster)]
    mean = loss_I[good_I].mean() if good_I.any() else np.nan
    error, value = stderr(np.array([x for x in pieces if np.isfinite(x)])), np.exp(np.minimum(mean, 700.0))
    record = {"value": value, "stderr": value * error, "nll": mean, "nll_stderr": error}
    counts = {"n": int(good_I.sum()), "nan": int((~good_I).sum()), "pieces": [finite(x) for x in pieces]}
    return {name: finite(x) for name, x in record.items()} | counts


def positions(nll_IU: np.ndarray, buckets: int) -> list[Record]:
    """-> mean loss of each bucket of neighbouring positions."""
    nll_IU = nll_IU[np.isfinite(nll_IU).all(axis=1)]
    if not len(nll_IU):
        return []
    records = []
    for places in np.array_split(np.arange(nll_IU.shape[1]), buckets):
        loss_I = nll_IU[:, places].mean(axis=1)
        record = {"position": float(places.mean()) + 1, "value": float(loss_I.mean()), "stderr": finite(stderr(loss_I))}
        records.append(record | {"n": nll_IU[:, places].size})
    return records


def stderr(x_I: np.ndarray) -> float:
    """Standard error of the mean; NaN for fewer than two."""
    return float(x_I.std(ddof=1) / np.sqrt(len(x_I))) if len(x_I) > 1 else float("nan")
