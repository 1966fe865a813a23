"""Where arrays live. The whole layout is one table: the axis letters of a weight's name say how it is split.

Mesh axes: "data" and "fsdp" split the batch, "seq" the sequence, "model" heads, feed-forward and vocabulary. Weights
are stored split over fsdp and seq together (FSDP) and over model, with one copy a part of "data"; one layer at a time
is gathered for use. Several hosts run the same program; each makes only the pieces that its devices hold.
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
    """Layout of the parameter `name`; layers are stacked in front. An axis that does not divide stays whole."""
    letters = name.rsplit("_", 1)[-1]
    if len(shape) - len(letters) not in (0, 1) or letters == "D" or not letters.isupper():
        return P(*[None] * len(shape))
    axes = [None] * (len(shape) - len(letters)) + [AXES.get(letter) for letter in letters]
    return P(*(axis if divides_axis(size, axis, mesh) else None for size, axis in zip(shape, axes, strict=True)))


def divides_axis(size: int, axis: Any, mesh: jax.sharding.Mesh) -> bool:
    parts = (axis,) if isinstance(axis, str) else axis or ()
    return size % math.prod(mesh.shape[a] for a in parts) == 0


def specs(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """-> the layout of a whole tree of parameters, moments or averages, by the last name in each path."""

    def spec(path, x):
        names = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
        return partition_spec(names[-1].rsplit("/", 1)[-1], x.shape, mesh) if names else P(*[None] * len(x.shape))

    return jax.tree_util.tree_map_with_path(spec, params)


def layout(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """-> the same as shardings on this mesh."""
    return jax.tree.map(lambda s: jax.NamedSharding(mesh, s), specs(params, mesh), is_leaf=lambda s: isinstance(s, P))


def shard_params(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """Host arrays, or arrays of another mesh, into their places."""
    return jax.tree.map(to_global_array, params, layout(params, mesh))


def to_global_array(x: Any, where: jax.sharding.NamedSharding) -> jax.Array:
    """An array, of which every host has the whole, in its place; a host copies what its devices hold."""
    if isinstance(x, jax.Array) and len(x.sharding.device_set) > 1:
        return jax.device_put(x, where)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, where, lambda piece: x[piece])


def gather_to_host(x: jax.Array) -> np.ndarray:
    """-> all of an array, on every host; a collective, if there are several."""
    if not x.is_fully_addressable and not x.is_fully_replicated:
        assert isinstance(x.sharding, jax.NamedSharding)
        x = jax.device_put(x, jax.NamedSharding(x.sharding.mesh, P()))
    return np.asarray(x)


def init_sharded(init: Any, mesh: jax.sharding.Mesh) -> Any:
    """`init` whose results are made in place, piece by piece; else every device first makes them whole."""
    return jax.jit(jax.sharding.auto_axes(init, out_sharding=specs(jax.eval_shape(init), mesh)))()


def place_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Rows that every host has made, which costs milliseconds, to the devices that compute with them."""
    return {name: to_global_array(x, jax.NamedSharding(mesh, TOKENS_BT)) for name, x in batch.items()}
