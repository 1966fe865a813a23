"""How arrays are split over a mesh: one table from the axis letters of a weight's name to mesh axes.

Mesh axes: "data" and "fsdp" split the batch, "seq" the sequence, "model" heads, feed-forward and vocabulary. Weights
are stored split over fsdp and seq together (FSDP) and over model, with one copy for each index of "data"; one layer at
a time is gathered for use. Several hosts run the same program; each creates only the shards that its devices hold.
"""

import math
from typing import Any

import jax
import numpy as np
from jax import P

BATCH = ("data", "fsdp")
FSDP = ("fsdp", "seq")
AXES = {"D": FSDP, "N": "model", "K": "model", "F": "model", "V": "model"}  # other letters are never split
TOKENS_BT = P(BATCH, "seq")


def partition_spec(name: str, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
    """Returns the layout of one parameter.

    Args:
      name: with its axis letters after the last underscore, as q_DNH.
      shape: of the parameter; a stack of layers has one axis more, in front.
      mesh: an axis whose size the mesh axes do not divide is not split.

    """
    letters = name.rsplit("_", 1)[-1]
    if len(shape) - len(letters) not in (0, 1) or letters == "D" or not letters.isupper():
        return P(*[None] * len(shape))
    axes = [None] * (len(shape) - len(letters)) + [AXES.get(letter) for letter in letters]
    return P(*(axis if divides_axis(size, axis, mesh) else None for size, axis in zip(shape, axes, strict=True)))


def divides_axis(size: int, axis: Any, mesh: jax.sharding.Mesh) -> bool:
    """Returns whether `size` can be split over a mesh axis, or over several together; None: over none."""
    axes = (axis,) if isinstance(axis, str) else axis or ()
    return size % math.prod(mesh.shape[a] for a in axes) == 0


def specs(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """Returns the PartitionSpecs of a tree of parameters, moments or averages, by the last name in each path."""

    def spec(path, x):
        names = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
        return partition_spec(names[-1].rsplit("/", 1)[-1], x.shape, mesh) if names else P(*[None] * len(x.shape))

    return jax.tree_util.tree_map_with_path(spec, params)


def layout(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """Returns the shardings of a tree of parameters, moments or averages on this mesh."""
    return jax.tree.map(lambda s: jax.NamedSharding(mesh, s), specs(params, mesh), is_leaf=lambda s: isinstance(s, P))


def shard_params(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """Returns parameters in their layout on the mesh; they come from the host, or from another mesh."""
    return jax.tree.map(to_global_array, params, layout(params, mesh))


def to_global_array(x: Any, sharding: jax.sharding.NamedSharding) -> jax.Array:
    """Returns an array of which every host has all in its layout; a host copies only what its devices hold."""
    if isinstance(x, jax.Array) and len(x.sharding.device_set) > 1:
        return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def gather_to_host(x: jax.Array) -> np.ndarray:
    """Returns the whole of an array on every host; with several hosts, all of them must call it."""
    if not x.is_fully_addressable and not x.is_fully_replicated:
        assert isinstance(x.sharding, jax.NamedSharding)
        x = jax.device_put(x, jax.NamedSharding(x.sharding.mesh, P()))
    return np.asarray(x)


def init_sharded(init: Any, mesh: jax.sharding.Mesh) -> Any:
    """Returns the result of `init`, a function without arguments, which each device computes for its shards only."""
    return jax.jit(jax.sharding.auto_axes(init, out_sharding=specs(jax.eval_shape(init), mesh)))()


def place_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Returns a batch, which every host has built as a whole (it costs milliseconds), in its layout on the mesh."""
    return {name: to_global_array(x, jax.NamedSharding(mesh, TOKENS_BT)) for name, x in batch.items()}
