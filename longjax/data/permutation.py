"""A keyed permutation of 0 .. n - 1 by arithmetic alone: no list is shuffled and no state is kept.

Letters: I any number of indices.
"""

import numpy as np


def permute(i_I: np.ndarray, n: int, key: tuple[int, ...], rounds: int = 4) -> np.ndarray:
    """Maps indices by a keyed bijection of 0 .. n - 1.

    A Feistel network permutes 0 .. 4^k - 1 >= n - 1; values outside 0 .. n - 1 are permuted again until they lie inside
    (cycle walking; Black and Rogaway 2002).

    Args:
      i_I: indices below n.
      n: size of the permuted range.
      key: selects the permutation.
      rounds: Feistel rounds.

    Returns:
      int64, the images of i_I.

    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence(key).generate_state(rounds, np.uint64)
    x_I = _feistel(i_I.astype(np.uint64), np.uint64(half), keys)
    while len(outside := np.flatnonzero(x_I >= n)):
        x_I[outside] = _feistel(x_I[outside], np.uint64(half), keys)
    return x_I.astype(np.int64)


def mix_bits(x_I: np.ndarray) -> np.ndarray:
    """Applies the finalizer of MurmurHash3 to uint64: flipping one input bit flips each output bit half of the time."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x_I = (x_I ^ x_I >> np.uint64(33)) * np.uint64(factor)
    return x_I ^ x_I >> np.uint64(33)


def _feistel(x_I: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left_I, right_I = x_I >> half, x_I & mask
    for key in keys:
        left_I, right_I = right_I, left_I ^ (mix_bits(right_I ^ key) & mask)
    return left_I << half | right_I
