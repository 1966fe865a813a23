"""Attention with a cache on a mesh: each device has its rows and its heads of the cache, and, where the mesh splits
the sequence and the method is a union of branches, its piece of the stores that keep all tokens.

A decoding step moves no keys: devices of one sequence agree on the largest score and add up what they have found.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import P

from longjax.attention.blockwise import blockwise_forward
from longjax.attention.branched import BranchedAttention
from longjax.attention.core import Attention, AttentionBackend, AttentionMetadata, BranchInputs
from longjax.attention.intervals import CacheRetention
from longjax.attention.kernels.triton_decode import TritonDecode, decode_attention, decode_unsupported_reason
from longjax.attention.kv_cache import KVCache
from longjax.model.llama import Llama
from longjax.sharding.context_parallel import metadata_layout
from longjax.sharding.partition import BATCH
from longjax.sharding.placement import MeshPlacement

ROWS_BT = P(BATCH, None)
HEADS_BTNH = P(BATCH, None, "model", None)
BLOCKS = (512, 2048)  # tiles of queries and keys
EMPTY = 1e29  # blockwise says of a row that sees nothing that its log-sum-exp is larger


@dataclasses.dataclass(frozen=True)
class InferencePlacement(MeshPlacement):
    """The placement of a model that reads and continues texts: tokens of a row stay together."""

    act = P(BATCH, None, None)

    def attention(self, attention: Attention) -> Attention:
        return CacheParallel(attention)


@dataclasses.dataclass(frozen=True)
class CacheParallel:
    """Any attention, on the current mesh."""

    inner: Attention

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        assert cache is not None, "this placement is for texts that grow"
        metadata = jax.tree.map(jnp.asarray, metadata)
        layout, stores = metadata_layout(metadata, ROWS_BT), cache_layout(cache, self.inner)
        metadata = jax.tree.map(jax.reshard, metadata, layout)
        q_BTNH, k_BSKH, v_BSKH = jax.reshard((q_BTNH, k_BSKH, v_BSKH), HEADS_BTNH)
        run = jax.shard_map(
            self.shard,
            in_specs=(HEADS_BTNH, HEADS_BTNH, HEADS_BTNH, layout, stores),
            out_specs=(HEADS_BTNH, stores),
            check_vma=False,
        )
        return run(q_BTNH, k_BSKH, v_BSKH, metadata, cache)

    def shard(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache: Any):
        """What one device does."""
        if not isinstance(self.inner, BranchedAttention) or jax.lax.axis_size("seq") == 1:
            return self.inner(q_BTNH, k_BSKH, v_BSKH, metadata, cache)
        split = tuple(self.inner.retention(branch) == CacheRetention() for branch in self.inner.branches)
        first = {name: shard_offset(store) for name, store in cache.items()}
        cache = {name: store.replace(offset=first[name]) for name, store in cache.items()}
        across = metadata.backend if metadata.keys.from_start else CrossDeviceSoftmax(split, metadata.backend)
        out_BTNH, cache = self.inner(q_BTNH, k_BSKH, v_BSKH, metadata.replace(backend=across), cache)
        return out_BTNH, {name: store.replace(offset=None) for name, store in cache.items()}

    def init_cache(self, cfg, batch, size):
        return self.inner.init_cache(cfg, batch, size)


def shard_offset(store: KVCache) -> jax.Array | None:
    """-> the first token of this device's piece; None: it has the whole store."""
    return jax.lax.axis_index("seq") * store.index_BW.shape[-1] if store.retention == CacheRetention() else None


@dataclasses.dataclass(frozen=True)
class CrossDeviceSoftmax:
    """One softmax over keys that lie on several devices. `split`: parts that do; the others every device has whole."""

    split: tuple[bool, ...]
    softmax: AttentionBackend

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array:
        mine = jax.lax.axis_index("seq") == 0
        parts = tuple(
            part if split else part.replace(hi_BTM=jnp.where(mine, part.hi_BTM, 0))
            for part, split in zip(parts, self.split, strict=True)
        )
        out_BTNH, lse_BTN = self.here(parts)
        lse_BTN = jnp.where(lse_BTN > EMPTY, -EMPTY, lse_BTN)
        weight_BTN = jnp.exp(lse_BTN - jax.lax.pmax(lse_BTN, "seq"))
        total_BTN = jax.lax.psum(weight_BTN, "seq")
        out = jax.lax.psum(out_BTNH.astype(jnp.float32) * (weight_BTN / total_BTN)[..., None], "seq")
        return out.astype(out_BTNH.dtype)

    def here(self, parts: tuple[BranchInputs, ...]) -> tuple[jax.Array, jax.Array]:
        """-> out_BTNH, lse_BTN of the keys of this device."""
        B, T, N, H = parts[0].q_BTNH.shape
        if T > 1:
            arrays = tuple((p.q_BTNH, p.k_BSKH, p.v_BSKH) for p in parts)
            return blockwise_forward(
                BLOCKS, arrays, tuple(p.replace(q_BTNH=None, k_BSKH=None, v_BSKH=None) for p in parts)
            )
        kernel = (
            self.softmax
            if isinstance(self.softmax, TritonDecode) and not any(map(decode_unsupported_reason, parts))
            else None
        )
        out_BKGH, lse_BKG = decode_attention(parts, kernel)
        return out_BKGH.reshape(B, T, N, H).astype(parts[0].q_BTNH.dtype), lse_BKG.reshape(B, T, N)


def cache_layout(cache: Any, attention: Attention) -> Any:
    """-> a PartitionSpec for every array of the cache."""
    union = isinstance(attention, BranchedAttention)

    def of(store: KVCache) -> KVCache:
        slots = (None, BATCH, "seq" if union and store.retention == CacheRetention() else None)
        axes = {0: (), 3: slots, 5: (*slots, "model", None)}
        return jax.tree.map(lambda x: P(*axes[x.ndim]), store)

    return jax.tree.map(of, cache, is_leaf=lambda x: isinstance(x, KVCache))


def init_sharded_cache(model: Llama, batch: int, size: int, length: int, mesh: jax.sharding.Mesh | None) -> Any:
    """-> the cache of all layers, on the mesh from the beginning."""
    make = partial(model.init_cache, batch, size, length)
    if mesh is None:
        return make()
    specs = cache_layout(jax.eval_shape(make), model.attention(length))
    return jax.jit(jax.sharding.auto_axes(make, out_sharding=specs))()
