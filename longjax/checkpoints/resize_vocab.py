"""Vocabularies grow: padding and landmarks are tokens that the base model does not have."""

from collections.abc import Mapping

import jax
import numpy as np

from longjax import sharding

GROWS = {"embed_VD": 0, "unembed_DV": 1, "unembed_bias_V": 0}  # parameter -> its vocabulary axis


def resize_vocab(params: Mapping[str, jax.Array | np.ndarray], new: int = 1) -> dict[str, jax.Array | np.ndarray]:
    """-> params with `new` more tokens, each the mean of the old ones."""
    return {name: _grow(x, GROWS[name], new) if name in GROWS else x for name, x in params.items()}


def _grow(x: jax.Array | np.ndarray, axis: int, new: int) -> np.ndarray:
    x = sharding.gather_to_host(x) if isinstance(x, jax.Array) else x
    mean = x.mean(axis, dtype=np.float64, keepdims=True).astype(x.dtype)
    return np.concatenate([x, np.repeat(mean, new, axis)], axis)
