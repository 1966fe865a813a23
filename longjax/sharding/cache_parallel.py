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

from longjax.attention.blockwise import forward
from longjax.attention.branched import Branched
from longjax.attention.core import Attention, Part, Scene, Softmax
from longjax.attention.intervals import Kept
from longjax.attention.kernels.triton_decode import Decode, attend, refuses
from longjax.attention.kv_cache import Store
from longjax.model.llama import Llama
from longjax.sharding.context_parallel import scene_layout
from longjax.sharding.partition import BATCH
from longjax.sharding.placement import OnMesh

ROWS_BT = P(BATCH, None)
HEADS_BTNH = P(BATCH, None, "model", None)
BLOCKS = (512, 2048)  # tiles of queries and keys
EMPTY = 1e29  # blockwise says of a row that sees nothing that its log-sum-exp is larger


@dataclasses.dataclass(frozen=True)
class Serving(OnMesh):
    """The placement of a model that reads and continues texts: tokens of a row stay together."""

    act = P(BATCH, None, None)

    def attention(self, attention: Attention) -> Attention:
        return CacheParallel(attention)


@dataclasses.dataclass(frozen=True)
class CacheParallel:
    """Any attention, on the current mesh."""

    inner: Attention

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, scene: Scene, memory=None):
        assert memory is not None, "this placement is for texts that grow"
        scene = jax.tree.map(jnp.asarray, scene)
        layout, stores = scene_layout(scene, ROWS_BT), memory_layout(memory, self.inner)
        scene = jax.tree.map(jax.reshard, scene, layout)
        q_BTNH, k_BSKH, v_BSKH = jax.reshard((q_BTNH, k_BSKH, v_BSKH), HEADS_BTNH)
        run = jax.shard_map(
            self.piece,
            in_specs=(HEADS_BTNH, HEADS_BTNH, HEADS_BTNH, layout, stores),
            out_specs=(HEADS_BTNH, stores),
            check_vma=False,
        )
        return run(q_BTNH, k_BSKH, v_BSKH, scene, memory)

    def piece(self, q_BTNH, k_BSKH, v_BSKH, scene: Scene, memory: Any):
        """What one device does."""
        if not isinstance(self.inner, Branched) or jax.lax.axis_size("seq") == 1:
            return self.inner(q_BTNH, k_BSKH, v_BSKH, scene, memory)
        split = tuple(self.inner.kept_for(branch) == Kept() for branch in self.inner.branches)
        first = {name: begins(store) for name, store in memory.items()}
        memory = {name: store.replace(offset=first[name]) for name, store in memory.items()}
        across = scene.softmax if scene.keys.from_start else Across(split, scene.softmax)
        out_BTNH, memory = self.inner(q_BTNH, k_BSKH, v_BSKH, scene.replace(softmax=across), memory)
        return out_BTNH, {name: store.replace(offset=None) for name, store in memory.items()}

    def empty(self, cfg, batch, size):
        return self.inner.empty(cfg, batch, size)


def begins(store: Store) -> jax.Array | None:
    """-> the first token of this device's piece; None: it has the whole store."""
    return jax.lax.axis_index("seq") * store.index_BW.shape[-1] if store.kept == Kept() else None


@dataclasses.dataclass(frozen=True)
class Across:
    """One softmax over keys that lie on several devices. `split`: parts that do; the others every device has whole."""

    split: tuple[bool, ...]
    softmax: Softmax

    def __call__(self, parts: tuple[Part, ...]) -> jax.Array:
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

    def here(self, parts: tuple[Part, ...]) -> tuple[jax.Array, jax.Array]:
        """-> out_BTNH, lse_BTN of the keys of this device."""
        B, T, N, H = parts[0].q_BTNH.shape
        if T > 1:
            arrays = tuple((p.q_BTNH, p.k_BSKH, p.v_BSKH) for p in parts)
            return forward(BLOCKS, arrays, tuple(p.replace(q_BTNH=None, k_BSKH=None, v_BSKH=None) for p in parts))
        kernel = self.softmax if isinstance(self.softmax, Decode) and not any(map(refuses, parts)) else None
        out_BKGH, lse_BKG = attend(parts, kernel)
        return out_BKGH.reshape(B, T, N, H).astype(parts[0].q_BTNH.dtype), lse_BKG.reshape(B, T, N)


def memory_layout(memory: Any, attention: Attention) -> Any:
    """-> a PartitionSpec for every array of the cache."""
    union = isinstance(attention, Branched)

    def of(store: Store) -> Store:
        slots = (None, BATCH, "seq" if union and store.kept == Kept() else None)
        axes = {0: (), 3: slots, 5: (*slots, "model", None)}
        return jax.tree.map(lambda x: P(*axes[x.ndim]), store)

    return jax.tree.map(of, memory, is_leaf=lambda x: isinstance(x, Store))


def empty_memory(model: Llama, batch: int, size: int, length: int, mesh: jax.sharding.Mesh | None) -> Any:
    """-> the cache of all layers, on the mesh from the beginning."""
    make = partial(model.empty_memory, batch, size, length)
    if mesh is None:
        return make()
    specs = memory_layout(jax.eval_shape(make), model.attention(length))
    return jax.jit(jax.sharding.auto_axes(make, out_sharding=specs))()
