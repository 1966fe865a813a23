"""Device meshes and the layout of every array: one table from axis letters to mesh axes."""

from longjax.sharding.context_parallel import ContextParallel, rope_layout, scene_layout
from longjax.sharding.mesh import check, make_mesh
from longjax.sharding.partition import (
    AXES,
    BATCH,
    FSDP,
    TOKENS_BT,
    born,
    fits,
    layout,
    place_batch,
    put,
    specs,
    spread,
    stored,
    whole,
)
from longjax.sharding.placement import OnMesh

__all__ = [
    "AXES",
    "BATCH",
    "FSDP",
    "TOKENS_BT",
    "ContextParallel",
    "OnMesh",
    "born",
    "check",
    "fits",
    "layout",
    "make_mesh",
    "place_batch",
    "put",
    "rope_layout",
    "scene_layout",
    "specs",
    "spread",
    "stored",
    "whole",
]
