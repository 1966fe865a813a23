"""No rotation: ALiBi, a bias that grows with distance; NoPE, nothing at all; T5's buckets of distances.

ALiBi: Press et al. 2022, arXiv:2108.12409. NoPE: Kazemnejad et al. 2023, arXiv:2305.19466. T5: Raffel et al.
2020, arXiv:1910.10683, section 2.1.
"""

import math

import jax.numpy as jnp
import numpy as np

from longjax.methods.base import Method
from longjax.rope import Rope


def alibi_slopes(heads: int) -> np.ndarray:
    """-> slopes_N. For heads beyond a power of two, every other slope of the next power.

    The rules of the authors, BLOOM and MPT are written differently and are the same.
    """
    power = 2 ** int(math.log2(heads))
    first = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    return np.concatenate([first, 2.0 ** (-4 * np.arange(1, 2 * (heads - power), 2) / power)])


def alibi_rope(cfg, length, own, key):
    return Rope(jnp.zeros(0, jnp.float32), slopes_N=jnp.asarray(alibi_slopes(cfg.heads), jnp.float32))


def no_rope(cfg, length, own, key):
    return Rope(jnp.zeros(0, jnp.float32))


def alibi() -> Method:
    return Method(rope=alibi_rope)


def nope() -> Method:
    return Method(rope=no_rope)


def t5_bucket(
    relative: np.ndarray, buckets: int = 32, max_distance: int = 128, bidirectional: bool = False
) -> np.ndarray:
    """`relative` is key place - query place -> bucket of each. Exact up to half of the buckets, then logarithmic."""
    side = buckets // 2 if bidirectional else buckets
    distance = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    exact = side // 2
    far = np.log(np.maximum(distance, exact) / exact) / np.log(max_distance / exact) * (side - exact)
    bucket = np.where(distance < exact, distance, np.minimum(exact + far.astype(np.int64), side - 1))
    return bucket + (side * (relative > 0) if bidirectional else 0)
