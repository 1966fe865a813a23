"""Keys in a cache, rotated again when the frequencies change while a sequence grows."""

import jax
import jax.numpy as jnp

from longjax.attention.branches import Identity, PositionMap
from longjax.attention.kv_cache import KVCache
from longjax.attention.rope import Rope, rotate


def rerotate(keys: KVCache, old: Rope, new: Rope, key_position: PositionMap = Identity()) -> KVCache:
    """Cached keys as if `new`, not `old`, had rotated them: rotations add up, so only the difference is applied.

    CLEX and the YaRN paper advise this. Arrays may have a leading layer axis.
    """
    change = new.replace(inv_freq_R=new.inv_freq_R - old.inv_freq_R, scale=new.scale / old.scale)

    def rotate_layer(k_BWKH, index_BW, start_BW):
        return rotate(k_BWKH, key_position((index_BW - start_BW).astype(jnp.float32)), change)

    rotate_all = jax.vmap(rotate_layer) if keys.index_BW.ndim == 3 else rotate_layer
    return keys.replace(k_BWKH=rotate_all(keys.k_BWKH, keys.index_BW, keys.start_BW))
