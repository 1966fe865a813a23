"""Adds tokens to a vocabulary: padding and landmarks, which a base model does not have."""

from collections.abc import Mapping

import jax
import numpy as np

from longjax import sharding

VOCAB_AXIS = {"embed_VD": 0, "unembed_DV": 1, "unembed_bias_V": 0}


def resize_vocab(params: Mapping[str, jax.Array | np.ndarray], new: int = 1) -> dict[str, jax.Array | np.ndarray]:
    """Returns parameters with `new` more tokens, whose embeddings, on the host, are the mean of the others."""
    return {name: _grow(x, VOCAB_AXIS[name], new) if name in VOCAB_AXIS else x for name, x in params.items()}


def _grow(x: jax.Array | np.ndarray, axis: int, new: int) -> np.ndarray:
    x = sharding.gather_to_host(x) if isinstance(x, jax.Array) else x
    mean = x.mean(axis, dtype=np.float64, keepdims=True).astype(x.dtype)
    return np.concatenate([x, np.repeat(mean, new, axis)], axis)
