"""Methods without rotation: ALiBi, a bias that grows with distance; NoPE, no position encoding; T5's buckets.

ALiBi: Press et al. 2022, arXiv:2108.12409; MPT's checkpoints have it. NoPE: Kazemnejad et al. 2023,
arXiv:2305.19466. T5: Raffel et al. 2020, arXiv:1910.10683, section 2.1.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from longjax.attention.rope import Rope
from longjax.methods.identity import identified
from longjax.methods.method import Method


def alibi_slopes(heads: int, bias_max: float = 8.0) -> np.ndarray:
    """Returns slopes_N, the smallest 2 ** -bias_max. Heads beyond a power of two get every other slope of the next one.

    The rules of the authors, of BLOOM and of MPT are written differently and are the same.
    """
    power = 2 ** int(math.log2(heads))
    first = 2.0 ** (-bias_max * np.arange(1, power + 1) / power)
    return np.concatenate([first, 2.0 ** (-bias_max / 2 * np.arange(1, 2 * (heads - power), 2) / power)])


@dataclasses.dataclass(frozen=True)
class AlibiRope:
    """No rotation, and ALiBi's slopes. `softmax_scale` None: scores are divided by sqrt(H); MPT may have another."""

    bias_max: float = 8.0
    softmax_scale: float | None = None

    def __call__(self, cfg, length, method_params, key):
        slopes_N = jnp.asarray(alibi_slopes(cfg.heads, self.bias_max), jnp.float32)
        query_scale = 1.0 if self.softmax_scale is None else self.softmax_scale * math.sqrt(cfg.head_dim)
        return Rope(jnp.zeros(0, jnp.float32), query_scale=query_scale, slopes_N=slopes_N)


def no_rope(cfg, length, method_params, key):
    """Returns a Rope without rotation: a `RopeFn`."""
    return Rope(jnp.zeros(0, jnp.float32))


@identified
def alibi(
    bias_max: float = 8.0,  # the smallest slope is 2 ** -bias_max
) -> Method:
    """ALiBi: no rotation, a bias that falls linearly with distance. For models that were trained with it (MPT)."""
    return Method(rope=AlibiRope(bias_max))


@identified
def mpt_alibi(bias_max: float, softmax_scale: float | None) -> Method:
    """ALiBi as MPT's configurations set it; `softmax_scale` None: 1 / sqrt(H)."""
    return Method(rope=AlibiRope(bias_max, softmax_scale))


@identified
def nope() -> Method:
    """NoPE: no position encoding. For models that were trained without."""
    return Method(rope=no_rope)


def t5_bucket(
    relative: np.ndarray, buckets: int = 32, max_distance: int = 128, bidirectional: bool = False
) -> np.ndarray:
    """Returns the bucket of each distance `relative` = key position - query position, as T5's bias has it.

    Distances up to half of the buckets have one each; beyond, buckets widen logarithmically up to `max_distance`.
    """
    side = buckets // 2 if bidirectional else buckets
    distance = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    exact = side // 2
    far = np.log(np.maximum(distance, exact) / exact) / np.log(max_distance / exact) * (side - exact)
    bucket = np.where(distance < exact, distance, np.minimum(exact + far.astype(np.int64), side - 1))
    return bucket + (side * (relative > 0) if bidirectional else 0)
