"""LM-Infinite with retrieval: the last query of a call also attends to the middle keys that score best.

Han et al. 2023, arXiv:2308.16137, section 4.2: what the authors' passkey and Qasper runs add in layers >= 4. Middle
keys are those between the first ones and the window. A head scores them, and attends to them, at distance `insert_at`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from longjax.attention.branched import branch_inputs
from longjax.attention.branches import Branch, Constant
from longjax.attention.core import MASK_VALUE, AttentionMetadata, BranchInputs
from longjax.attention.intervals import BeyondWindow, CacheRetention, SlidingWindow
from longjax.attention.kv_cache import KVCache, index_or_empty
from longjax.attention.rope import rotate, scale_queries
from longjax.config import ModelConfig
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class TopKMiddleAttention:
    """LM-Infinite's attention with `top_k` retrieved keys. Letters as in rope.py; W slots of a cache, J keys a head."""

    window: int
    first: int
    clamp: int
    top_k: int
    insert_at: int
    from_layer: int

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        unrotated = KVCache.of(k_BSKH, v_BSKH, metadata.keys)
        rotated = unrotated.replace(k_BWKH=rotate(k_BSKH, metadata.keys.position_BT, metadata.rope))
        keys, new_cache = {"near": rotated, "first": unrotated, "every": unrotated}, {}
        for name, store in (cache or {}).items():
            keys[name], new_cache[name] = store.update(keys[name].k_BWKH, v_BSKH, metadata.keys)
        near = Branch(SlidingWindow(self.window))
        first = Branch(BeyondWindow(self.window, self.first), Constant(self.clamp), Constant(0))
        branches = (
            branch_inputs(near, q_BTNH, keys["near"], metadata),
            branch_inputs(first, q_BTNH, keys["first"], metadata),
            self.middle(q_BTNH, keys["every"].single_layer(), metadata),
        )
        return metadata.backend(branches), new_cache or None

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> dict[str, KVCache]:
        retention = {
            "near": CacheRetention(last=self.window),
            "first": CacheRetention(first=self.first),
            "every": CacheRetention(),
        }
        return {name: KVCache.empty(cfg, batch, size, keep) for name, keep in retention.items()}

    def middle(self, q_BTNH: jax.Array, every: KVCache, metadata: AttentionMetadata) -> BranchInputs:
        """Returns the branch of the retrieved keys.

        A key head holds the J keys of each of its G query heads; the interval of a query head covers its own J.
        """
        queries, (B, T, N, _), K = metadata.queries, q_BTNH.shape, every.k_BWKH.shape[2]
        position_BT = jnp.full((B, T), self.insert_at, jnp.float32)
        q_BTNH = scale_queries(rotate(q_BTNH, position_BT, metadata.rope), metadata.rope)
        newest_B1 = jnp.max(index_or_empty(metadata.keys), axis=1, keepdims=True)
        last_BT = queries.real_BT & (queries.index_BT == newest_B1)
        slot_BNJ, count_BN = self.choose(q_BTNH, every, last_BT, queries.start_BT, newest_B1)
        slot_BKS = slot_BNJ.reshape(B, K, -1)
        row, head = jnp.arange(B)[:, None, None], jnp.arange(K)[:, None]
        k_BSKH, v_BSKH = (jnp.swapaxes(x[row, slot_BKS, head], 1, 2) for x in (every.k_BWKH, every.v_BWKH))
        lo_N = jnp.arange(N) % (N // K) * slot_BNJ.shape[-1]
        retrieves_BT = last_BT & (metadata.layer >= self.from_layer)
        lo_BTN, hi_BTN = jnp.broadcast_arrays(lo_N, lo_N + jnp.where(retrieves_BT[:, :, None], count_BN[:, None], 0))
        s_index_BS = jnp.broadcast_to(jnp.arange(k_BSKH.shape[1]), (B, k_BSKH.shape[1]))
        return BranchInputs(
            q_BTNH, k_BSKH, v_BSKH, lo_BTN, hi_BTN, queries.index_BT, s_index_BS, position_BT,
            jnp.zeros(s_index_BS.shape, jnp.float32), metadata.rope.slopes_N,
        )  # fmt: skip

    def choose(self, q_BTNH, every: KVCache, last_BT, start_BT, newest_B1) -> tuple[jax.Array, jax.Array]:
        """Returns slot_BNJ of the best middle keys, best first, and count_BN of those that exist."""
        B, _, N, H = q_BTNH.shape
        K = every.k_BWKH.shape[2]
        t_B1 = jnp.argmax(last_BT, axis=1, keepdims=True)
        q_BKGH = jnp.take_along_axis(q_BTNH, t_B1[:, :, None, None], axis=1).reshape(B, K, N // K, H)
        score = jnp.einsum("BKGH,BWKH->BKGW", q_BKGH, every.k_BWKH, preferred_element_type=jnp.float32)
        middle_start_B1 = jnp.take_along_axis(start_BT, t_B1, axis=1) + self.first
        middle_BW = (every.index_BW >= middle_start_B1) & (every.index_BW <= newest_B1 - self.window)
        score_BNW = jnp.where(middle_BW[:, None], score.reshape(B, N, -1), MASK_VALUE)
        top_BNJ, slot_BNJ = jax.lax.top_k(score_BNW, min(self.top_k, score_BNW.shape[-1]))
        return slot_BNJ, jnp.sum(top_BNJ > MASK_VALUE, axis=-1, dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class LmInfiniteTopK:
    """LM-Infinite with retrieval, `window` and `clamp` by the trained length where they are None."""

    window: int | None
    first: int
    clamp: int | None
    top_k: int
    insert_at: int
    from_layer: int

    def __call__(self, cfg, length):
        window = self.window or cfg.trained_len
        clamp = window if self.clamp is None else self.clamp
        return TopKMiddleAttention(window, self.first, clamp, self.top_k, self.insert_at, self.from_layer)


@identified
def lm_infinite_topk(
    window: int | None = None,  # latest tokens that a query attends to, itself included; None: the trained length
    first: int = 10,  # tokens at the start of the sequence that all queries attend to
    clamp: int | None = None,  # distance of the first tokens, in tokens; None: the window
    top_k: int = 5,  # middle keys that a query head retrieves
    insert_at: int = 2048,  # distance at which retrieved keys are seen, in tokens
    from_layer: int = 4,  # first layer that retrieves, from 0
) -> Method:
    """LM-Infinite with retrieval, without training. It needs a cache of all keys."""
    if top_k < 1:
        raise ValueError(f"--top_k={top_k} must be at least 1; lm_infinite is the method without")
    return Method(attention=LmInfiniteTopK(window, first, clamp, top_k, insert_at, from_layer), trainable=frozen)
