"""StreamingLLM: attention to the first few tokens (sinks), the `recent` ones and the query itself. No training.

Xiao et al. 2023, arXiv:2309.17453. Positions are slots of a full cache: recent keys keep their distance, and sinks come
right before them. `evict` is the paper's use in a chat: dense attention within a turn, eviction before it.
"""

import dataclasses

import jax.numpy as jnp

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Clipped
from longjax.attention.intervals import BeyondWindow, SlidingWindow
from longjax.attention.kv_cache import KVCache
from longjax.attention.rope import Rope, rotate
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class StreamingLlm:
    """The sinks and a window of `recent` tokens and the query; None: as many as fill the trained length."""

    sinks: int
    recent: int | None

    def __call__(self, cfg, length):
        recent = cfg.trained_len - 1 - self.sinks if self.recent is None else self.recent
        near, far = (
            Branch(SlidingWindow(recent + 1)),
            Branch(BeyondWindow(recent + 1, self.sinks), Clipped(self.sinks + recent)),
        )
        return BranchedAttention((near, far) if self.sinks else (near,))


@identified
def streaming_llm(
    sinks: int = 4,  # tokens at the start of the sequence that all queries attend to
    recent: int | None = None,  # tokens before the query that it attends to; None: trained length - 1 - sinks
) -> Method:
    """StreamingLLM, without training."""
    return Method(attention=StreamingLlm(sinks, recent), trainable=frozen)


def evict(store: KVCache, coming: int, sinks: int, recent: int, rope: Rope) -> KVCache:
    """Evicts the tokens after the sinks, so that `coming` more tokens fit into sinks + recent slots.

    The sinks move up to the remaining tokens, by rotating their keys. All tokens are then contiguous, and attention
    within the turn is plain.

    Args:
      store: the cache of one layer, with keys rotated to their positions; sinks + recent slots suffice where no turn
        has more than `recent` tokens.
      coming: tokens of the next turn.
      sinks: tokens at the start that stay.
      recent: other tokens that stay, those of the next turn included.
      rope: rotates keys.

    """
    index_BW, slots = store.index_BW, store.index_BW.shape[1]
    held_B1 = jnp.sum(index_BW >= 0, axis=1, keepdims=True, dtype=jnp.int32)
    oldest_B1 = jnp.max(index_BW, axis=1, keepdims=True) + 1 - held_B1
    gone_B1 = jnp.clip(held_B1 + coming - sinks - recent, 0, jnp.maximum(held_B1 - sinks, 0))
    from_BW = (jnp.arange(slots, dtype=jnp.int32) - gone_B1) % slots  # slot of the token that may move here
    moved_BW = jnp.take_along_axis(index_BW, from_BW, axis=1)
    is_sink_BW = (moved_BW >= 0) & (moved_BW < oldest_B1 + sinks)
    stays_BW = index_BW >= oldest_B1 + sinks + gone_B1

    def move(x_BWKH):
        return jnp.take_along_axis(x_BWKH, from_BW[:, :, None, None], axis=1)

    by_BW = jnp.broadcast_to(gone_B1, index_BW.shape)
    turned_BWKH = rotate(move(store.k_BWKH), by_BW, rope.replace(scale=1.0))
    sink_BW11 = is_sink_BW[:, :, None, None]
    return store.replace(
        k_BWKH=jnp.where(sink_BW11, turned_BWKH, store.k_BWKH),
        v_BWKH=jnp.where(sink_BW11, move(store.v_BWKH), store.v_BWKH),
        index_BW=jnp.where(is_sink_BW, moved_BW + gone_B1, jnp.where(stays_BW, index_BW, -1)),
    )
