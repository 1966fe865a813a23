"""Device meshes, the layout of every array by its axis letters, context parallelism, the sharded KV cache.

May import model and everything below it.
"""

from longjax.sharding.context_parallel import ContextParallel, metadata_layout, rope_layout
from longjax.sharding.mesh import check_divisible, make_mesh
from longjax.sharding.partition import (
    AXES,
    BATCH,
    FSDP,
    TOKENS_BT,
    divides_axis,
    gather_to_host,
    init_sharded,
    layout,
    partition_spec,
    place_batch,
    shard_params,
    specs,
    to_global_array,
)
from longjax.sharding.placement import MeshPlacement

__all__ = [
    "AXES",
    "BATCH",
    "FSDP",
    "TOKENS_BT",
    "ContextParallel",
    "MeshPlacement",
    "check_divisible",
    "divides_axis",
    "gather_to_host",
    "init_sharded",
    "layout",
    "make_mesh",
    "metadata_layout",
    "partition_spec",
    "place_batch",
    "rope_layout",
    "shard_params",
    "specs",
    "to_global_array",
]
