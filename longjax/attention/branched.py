"""Attention as a union of branches: the form of every method but Landmark. Letters as in rope.py."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from longjax.attention.branches import Branch, PositionMap
from longjax.attention.core import AttentionMetadata, BranchInputs, StackedCache
from longjax.attention.intervals import CacheRetention
from longjax.attention.kv_cache import KVCache
from longjax.attention.rope import per_row, rotate
from longjax.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class BranchedAttention:
    """One softmax over the branches; with no argument, plain causal attention."""

    branches: tuple[Branch, ...] = (Branch(),)

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        cache = cache or {}
        named = zip((q_BTNH, k_BSKH, v_BSKH), "qkv", strict=True)  # the backward pass may keep them
        q_BTNH, k_BSKH, v_BSKH = (checkpoint_name(x, name) for x, name in named)
        rotated = {at: rotate(k_BSKH, at(metadata.keys.position_BT), metadata.rope) for at in self.key_positions()}
        parts, seen, after = [], {}, {}
        for branch in self.branches:
            name, k = self.cache_of(branch), rotated[branch.key_position]
            if name not in seen:  # a store that branches share is written once
                seen[name] = KVCache.of(k, v_BSKH, metadata.keys)
                if cache:
                    seen[name], after[name] = cache[name].visible_keys(k, v_BSKH, metadata.keys)
            parts.append(branch_inputs(branch, q_BTNH, seen[name], metadata))
        return metadata.backend(tuple(parts)), after or None

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> dict[str, KVCache]:
        return {
            self.cache_of(branch): KVCache.empty(cfg, batch, size, self.retention(branch)) for branch in self.branches
        }

    def key_positions(self) -> tuple[PositionMap, ...]:
        return tuple(dict.fromkeys(branch.key_position for branch in self.branches))

    def retention(self, branch: Branch) -> CacheRetention:
        """What its store keeps. Branches that place keys alike share one store if one of them needs all."""
        alike = [other.interval.retention for other in self.branches if other.key_position == branch.key_position]
        return CacheRetention() if CacheRetention() in alike else branch.interval.retention

    def cache_of(self, branch: Branch) -> str:
        kept = self.retention(branch)
        place = self.key_positions().index(branch.key_position)
        return f"keys{place}" + (f"_last{kept.last}" if kept.last else f"_first{kept.first}" if kept.first else "")


def branch_inputs(branch: Branch, q_BTNH: jax.Array, keys: KVCache, metadata: AttentionMetadata) -> BranchInputs:
    """What the branch brings to the softmax."""
    queries, stored, keys, rope = metadata.queries, stacked_cache(keys), keys.single_layer(), metadata.rope
    i_BT = queries.index_BT - queries.start_BT
    lo, hi = branch.interval(i_BT[:, :, None], metadata.head_N)
    lo_BTM, hi_BTM = (queries.start_BT[:, :, None] + jnp.asarray(x, jnp.int32) for x in jnp.broadcast_arrays(lo, hi))
    t_place_BT = branch.query_position(queries.position_BT)
    scale_BT = branch.query_scale(i_BT) * per_row(rope.query_scale, 2)
    q_BTNH = rotate(q_BTNH, t_place_BT, rope) * scale_BT[:, :, None, None].astype(q_BTNH.dtype)
    in_order = queries.in_order and metadata.keys.in_order and keys.k_BWKH.shape[1] == q_BTNH.shape[1]
    apart = in_order and not queries.from_start
    s_place_BS = branch.key_position((keys.index_BW - keys.start_BW).astype(jnp.float32))
    return BranchInputs(
        q_BTNH, keys.k_BWKH, keys.v_BWKH, lo_BTM, hi_BTM, queries.index_BT, keys.index_BW, t_place_BT, s_place_BS,
        rope.slopes_N, branch.mask, branch.interval if in_order else None,
        (queries.start_BT, keys.start_BW) if apart else None, metadata.head_N, stored,
    )  # fmt: skip


def stacked_cache(keys: KVCache) -> StackedCache | None:
    """-> the cache that holds these keys; None if they are no layer's."""
    if keys.layer is None:
        return None
    offset = 0 if keys.offset is None else keys.offset
    return StackedCache(keys.index_BW, keys.k_BWKH, keys.v_BWKH, keys.layer, offset)
