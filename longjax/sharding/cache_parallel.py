"""Attention with a KV cache that is sharded over a mesh.

Each device has its rows and its heads of the cache. Where the mesh splits the sequence and the method is a union of
branches, it also has only its shard of the caches that retain all tokens. A decoding step moves no keys: the devices of
one sequence agree on the largest score and add up their weighted values.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import P

from longjax.attention.blockwise import blockwise_forward
from longjax.attention.branched import BranchedAttention
from longjax.attention.core import Attention, AttentionBackend, AttentionMetadata, BranchInputs, split_qkv
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
EMPTY = 1e29  # blockwise gives rows without any visible key a larger log-sum-exp


@dataclasses.dataclass(frozen=True)
class InferencePlacement(MeshPlacement):
    """The placement of a model for inference: rows are split over devices, the tokens of a row are not."""

    act = P(BATCH, None, None)

    def attention(self, attention: Attention) -> Attention:
        return CacheParallel(attention)


@dataclasses.dataclass(frozen=True)
class CacheParallel:
    """Any attention with a KV cache, on the current mesh."""

    inner: Attention

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        assert cache is not None, "InferencePlacement needs a KV cache"
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
        """Attention of one device over its shard of the cache."""
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
    """Returns the index of the first token of this device's shard; None: the cache is not split over the sequence."""
    return jax.lax.axis_index("seq") * store.index_BW.shape[-1] if store.retention == CacheRetention() else None


@dataclasses.dataclass(frozen=True)
class CrossDeviceSoftmax:
    """One softmax over keys on several devices.

    Attributes:
      split: by branch, whether its keys are split over devices; otherwise every device has all of them.
      softmax: the attention backend, for its decoding kernel.

    """

    split: tuple[bool, ...]
    softmax: AttentionBackend

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        is_first = jax.lax.axis_index("seq") == 0
        branches = tuple(
            branch if split else branch.replace(hi_BTM=jnp.where(is_first, branch.hi_BTM, 0))  # count them once
            for branch, split in zip(branches, self.split, strict=True)
        )
        out_BTNH, lse_BTN = self.on_device(branches)
        lse_BTN = jnp.where(lse_BTN > EMPTY, -EMPTY, lse_BTN)
        weight_BTN = jnp.exp(lse_BTN - jax.lax.pmax(lse_BTN, "seq"))
        total_BTN = jax.lax.psum(weight_BTN, "seq")
        out = jax.lax.psum(out_BTNH.astype(jnp.float32) * (weight_BTN / total_BTN)[..., None], "seq")
        return out.astype(out_BTNH.dtype)

    def on_device(self, branches: tuple[BranchInputs, ...]) -> tuple[jax.Array, jax.Array]:
        """Returns out_BTNH and lse_BTN of the keys of this device."""
        B, T, N, H = branches[0].q_BTNH.shape
        if T > 1:
            return blockwise_forward(BLOCKS, *split_qkv(branches))
        kernel = (
            self.softmax
            if isinstance(self.softmax, TritonDecode) and not any(map(decode_unsupported_reason, branches))
            else None
        )
        out_BKGH, lse_BKG = decode_attention(branches, kernel)
        return out_BKGH.reshape(B, T, N, H).astype(branches[0].q_BTNH.dtype), lse_BKG.reshape(B, T, N)


def cache_layout(cache: Any, attention: Attention) -> Any:
    """Returns a PartitionSpec for every array of a cache of all layers."""
    union = isinstance(attention, BranchedAttention)

    def spec(store: KVCache) -> KVCache:
        slots = (None, BATCH, "seq" if union and store.retention == CacheRetention() else None)
        axes = {0: (), 3: slots, 5: (*slots, "model", None)}
        return jax.tree.map(lambda x: P(*axes[x.ndim]), store)

    return jax.tree.map(spec, cache, is_leaf=lambda x: isinstance(x, KVCache))


def init_sharded_cache(model: Llama, batch: int, size: int, length: int, mesh: jax.sharding.Mesh | None) -> Any:
    """Returns the empty cache of all layers, created in its layout on the mesh.

    Args:
      model: the model.
      batch: rows.
      size: tokens that a cache of all keys has room for.
      length: tokens of the whole sequences, prompt and continuation.
      mesh: None: one device.

    """
    make = partial(model.init_cache, batch, size, length)
    if mesh is None:
        return make()
    specs = cache_layout(jax.eval_shape(make), model.attention(length))
    return jax.jit(jax.sharding.auto_axes(make, out_sharding=specs))()
