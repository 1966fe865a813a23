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
    """One softmax over the branches; with no argument, full causal attention."""

    branches: tuple[Branch, ...] = (Branch(),)

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        cache = cache or {}
        named = zip((q_BTNH, k_BSKH, v_BSKH), "qkv", strict=True)  # a remat policy may save them
        q_BTNH, k_BSKH, v_BSKH = (checkpoint_name(x, name) for x, name in named)
        position_BT = metadata.keys.position_BT
        rotated = {to: rotate(k_BSKH, to(position_BT), metadata.rope) for to in self.key_positions()}
        inputs, attended, after = [], {}, {}
        for branch in self.branches:
            name, k = self.cache_name(branch), rotated[branch.key_position]
            if name not in attended:  # a cache that branches share is written once
                attended[name] = KVCache.of(k, v_BSKH, metadata.keys)
                if cache:
                    attended[name], after[name] = cache[name].update(k, v_BSKH, metadata.keys)
            inputs.append(branch_inputs(branch, q_BTNH, attended[name], metadata))
        return metadata.backend(tuple(inputs)), after or None

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> dict[str, KVCache]:
        """Return the empty caches of one layer by name; branches share one where they can."""
        return {
            self.cache_name(branch): KVCache.empty(cfg, batch, size, self.retention(branch)) for branch in self.branches
        }

    def key_positions(self) -> tuple[PositionMap, ...]:
        """The different position maps of keys."""
        return tuple(dict.fromkeys(branch.key_position for branch in self.branches))

    def retention(self, branch: Branch) -> CacheRetention:
        """What the branch's cache retains. Branches with one key position share a cache if one of them needs all."""
        alike = [other.interval.retention for other in self.branches if other.key_position == branch.key_position]
        return CacheRetention() if CacheRetention() in alike else branch.interval.retention

    def cache_name(self, branch: Branch) -> str:
        """Name of the cache that holds the branch's keys."""
        retention = self.retention(branch)
        name = f"keys{self.key_positions().index(branch.key_position)}"
        if retention.last:
            return f"{name}_last{retention.last}"
        return f"{name}_first{retention.first}" if retention.first else name


def branch_inputs(branch: Branch, q_BTNH: jax.Array, keys: KVCache, metadata: AttentionMetadata) -> BranchInputs:
    """Prepare one branch for the softmax.

    Args:
      branch: interval, positions and mask.
      q_BTNH: queries, not rotated.
      keys: the keys that they attend to, rotated to the branch's key positions.
      metadata: positions, frequencies and heads of the call.

    """
    queries, stacked, keys, rope = metadata.queries, stacked_cache(keys), keys.single_layer(), metadata.rope
    i_BT = queries.index_BT - queries.start_BT
    lo, hi = branch.interval(i_BT[:, :, None], metadata.head_N)
    lo_BTM, hi_BTM = (queries.start_BT[:, :, None] + jnp.asarray(x, jnp.int32) for x in jnp.broadcast_arrays(lo, hi))
    t_position_BT = branch.query_position(queries.position_BT)
    scale_BT = branch.query_scale(i_BT) * per_row(rope.query_scale, 2)
    q_BTNH = rotate(q_BTNH, t_position_BT, rope) * scale_BT[:, :, None, None].astype(q_BTNH.dtype)
    in_order = queries.in_order and metadata.keys.in_order and keys.k_BWKH.shape[1] == q_BTNH.shape[1]
    packed = in_order and not queries.from_start
    s_position_BS = branch.key_position((keys.index_BW - keys.start_BW).astype(jnp.float32))
    return BranchInputs(
        q_BTNH, keys.k_BWKH, keys.v_BWKH, lo_BTM, hi_BTM, queries.index_BT, keys.index_BW, t_position_BT, s_position_BS,
        rope.slopes_N, branch.mask, branch.interval if in_order else None,
        (queries.start_BT, keys.start_BW) if packed else None, metadata.head_N, stacked,
    )  # fmt: skip


def stacked_cache(keys: KVCache) -> StackedCache | None:
    """Return the cache of all layers that holds these keys; None if they are not one layer's of it."""
    if keys.layer is None:
        return None
    offset = 0 if keys.offset is None else keys.offset
    return StackedCache(keys.index_BW, keys.k_BWKH, keys.v_BWKH, keys.layer, offset)
