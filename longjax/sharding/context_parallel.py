"""Context parallelism: attention of sequences split over the mesh axis "seq", by Ulysses or by gathered keys."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import P

from longjax.attention.core import Attention, AttentionMetadata
from longjax.attention.rope import Rope
from longjax.sharding.partition import BATCH, TOKENS_BT

HEADS_BTNH = P(BATCH, "seq", "model", None)
HEADS_N = P("model")
WHOLE_BSKH = P(BATCH, None, "model", None)


@dataclasses.dataclass(frozen=True)
class ContextParallel:
    """Any attention, of sequences that are split over "seq".

    During attention, heads are split over "seq" instead (Ulysses: Jacobs et al. 2023, arXiv:2309.14509), so that every
    device has whole rows and all have the same work. Where there are too few heads for that, every device keeps its
    queries and gathers all keys and values.
    """

    inner: Attention

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata: AttentionMetadata, cache=None):
        assert cache is None, "ContextParallel takes no KV cache"
        shards = math.prod(jax.typeof(q_BTNH).sharding.mesh.shape[axis] for axis in ("model", "seq"))
        N, K = q_BTNH.shape[2], k_BSKH.shape[2]
        if N % shards == 0 and (K % shards == 0 or shards % K == 0):
            queries = keys = P(BATCH, None, ("model", "seq"), None)
            if shards > K:
                k_BSKH, v_BSKH = (jnp.repeat(x, shards // K, 2, out_sharding=HEADS_BTNH) for x in (k_BSKH, v_BSKH))
        else:
            queries, keys = HEADS_BTNH, WHOLE_BSKH
            metadata = metadata.replace(queries=metadata.queries.replace(in_order=False, from_start=False))
        metadata = jax.tree.map(jnp.asarray, metadata)
        layout = metadata_layout(metadata, P(*queries[:2]), P(queries[2]))
        metadata = jax.tree.map(jax.reshard, metadata, layout)
        run = jax.shard_map(
            lambda *args: self.inner(*args)[0],
            in_specs=(queries, keys, keys, layout),
            out_specs=queries,
            check_vma=False,
        )
        out_BTNH = run(jax.reshard(q_BTNH, queries), *jax.reshard((k_BSKH, v_BSKH), keys), metadata)
        return jax.reshard(out_BTNH, HEADS_BTNH), None

    def init_cache(self, cfg, batch, size):
        return self.inner.init_cache(cfg, batch, size)


def metadata_layout(metadata: AttentionMetadata, queries_BT: P = TOKENS_BT, heads_N: P = HEADS_N) -> AttentionMetadata:
    """Returns the metadata with a PartitionSpec in place of every array.

    Args:
      metadata: of one call of attention.
      queries_BT: layout of arrays by query.
      heads_N: layout of arrays by head.

    """
    return metadata.replace(
        queries=jax.tree.map(lambda _: queries_BT, metadata.queries),
        keys=jax.tree.map(lambda _: P(BATCH, None), metadata.keys),
        rope=rope_layout(metadata.rope, heads_N),
        head_N=heads_N,
        layer=P(),
    )


def rope_layout(rope: Rope, heads_N: P) -> Rope:
    """Returns the rope with a PartitionSpec in place of every array: arrays with a batch axis are split over it."""
    specs = jax.tree.map(lambda x: P(BATCH) if jnp.ndim(x) == 3 else P(), rope)
    return specs.replace(slopes_N=None if rope.slopes_N is None else heads_N)
