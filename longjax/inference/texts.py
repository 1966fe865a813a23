"""Texts as a model reads them: token ids that are checked, and how likely a text is."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Text = str | Sequence[int] | np.ndarray | jax.Array  # or its token ids


class Loglikelihood(NamedTuple):
    """How likely a text is.

    Attributes:
      total: sum of log p over the scored tokens, in nats: the value of lm-eval's `loglikelihood_rolling`.
      num_tokens: how many tokens were scored.

    """

    total: float
    num_tokens: int

    @property
    def perplexity(self) -> float:
        """exp(-total / num_tokens); NaN if no token was scored."""
        return math.exp(-self.total / self.num_tokens) if self.num_tokens else math.nan


def encode_texts(texts: Sequence[Text], encode: Callable[[str], np.ndarray], vocab: int) -> list[np.ndarray]:
    """Returns the ids of each text, int32.

    Args:
      texts: str, which `encode` turns into ids, or rows of ids.
      encode: called with a str.
      vocab: number of ids that the model has.

    Raises:
      ValueError: a text is empty or has other ids.

    """
    if isinstance(texts, str):
        raise ValueError("texts must be a sequence of texts: write [text]")
    ids = [encode(text) if isinstance(text, str) else text for text in texts]
    return [check_ids(ids_T, f"text {i}", 1, vocab) for i, ids_T in enumerate(ids)]


def check_ids(ids: Any, name: str, axes: int, vocab: int) -> np.ndarray:
    """Returns token ids as int32. Raises ValueError if they have other axes, are none, or not in the vocabulary."""
    ids = np.asarray(ids)
    if ids.ndim != axes or not ids.size or ids.dtype.kind not in "iu":
        raise ValueError(f"{name} must be token ids with {axes} axes, not {ids.dtype} of shape {ids.shape}")
    if ids.min() < 0 or ids.max() >= vocab:
        raise ValueError(f"{name} has ids from {ids.min()} to {ids.max()}, but the vocabulary has {vocab}")
    return ids.astype(np.int32)
