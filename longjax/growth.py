"""Which length chooses the frequencies, when one model sees sequences of many lengths or one that grows.

We choose once a sequence: the length of prompt and continuation. Here are the ways of other systems: `Llama` takes
`length` in every call, so that any of them can be followed.
"""

from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp

from longjax.branches import Here, Place
from longjax.cache import Store
from longjax.rope import Rope, rotate

# (length of this call, length used by the call before, the model's trained length) -> length to use
Growth = Callable[[int, int, int], int]


def stateless(length: int, used: int, trained_len: int) -> int:
    return length


def sticky(length: int, used: int, trained_len: int) -> int:
    """The longest so far: transformers 4 and LCEG."""
    return max(length, used)


def sticky_with_reset(length: int, used: int, trained_len: int) -> int:
    """The longest so far, until a sequence is shorter than the trained length: transformers 5."""
    return trained_len if length < trained_len else max(length, used)


def lengths_used(growth: Growth, lengths: Iterable[int], trained_len: int) -> Iterator[int]:
    """-> what the calls of one model instance use, in order."""
    used = trained_len
    for length in lengths:
        used = growth(length, used, trained_len)
        yield used


def reapply(keys: Store, old: Rope, new: Rope, at: Place = Here()) -> Store:
    """Cached keys as if they had been rotated by `new`, not `old`: rotations add up, so only the difference is needed.

    CLEX and the YaRN paper advise this when the frequencies change while a sequence grows. Arrays may have a
    leading layer axis.
    """
    turn = new.replace(inv_freq_R=new.inv_freq_R - old.inv_freq_R, scale=new.scale / old.scale)

    def one(k_BWKH, index_BW, start_BW):
        return rotate(k_BWKH, at((index_BW - start_BW).astype(jnp.float32)), turn)

    each = jax.vmap(one) if keys.index_BW.ndim == 3 else one
    return keys.replace(k_BWKH=each(keys.k_BWKH, keys.index_BW, keys.start_BW))
