"""Where arrays live. The whole layout is one table: the axis letters of a weight's name say how it is split.

Mesh axes: "data" and "fsdp" split the batch, "seq" the sequence, "model" heads, feed-forward and vocabulary. Weights
are stored split over fsdp and seq together (FSDP) and over model, with one copy a part of "data"; one layer at a time
is gathered for use. Several hosts run the same program; each makes only the pieces that its devices hold.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import P

from longjax.attention import Attention, Scene
from longjax.config import ModelConfig
from longjax.cross_entropy import cross_entropy
from longjax.pieces import gather, look_up
from longjax.rope import Rope
from longjax.torus import ordered

BATCH = ("data", "fsdp")
FSDP = ("fsdp", "seq")
AXES = {"D": FSDP, "N": "model", "K": "model", "F": "model", "V": "model"}  # other letters are never split
TOKENS_BT = P(BATCH, "seq")
ACT_BTD = P(BATCH, "seq", None)
HEADS_BTNH = P(BATCH, "seq", "model", None)
HEADS_N = P("model")
WHOLE_BSKH = P(BATCH, None, "model", None)


def make_mesh(
    data: int = 1, fsdp: int = 1, seq: int = 1, model: int = 1, devices: Sequence[Any] | None = None
) -> jax.sharding.Mesh:
    """Over all devices of all hosts, if none are given. Raises ValueError if there are more or fewer."""
    sizes = {"data": data, "fsdp": fsdp, "seq": seq, "model": model}
    devices = jax.devices() if devices is None else devices
    if (asked := math.prod(sizes.values())) != len(devices):
        flags = " x ".join(f"--mesh_{axis}={size}" for axis, size in sizes.items())
        raise ValueError(f"{flags} is {asked} devices, but there are {len(devices)}")
    grid = np.array(ordered(devices, seq * model)).reshape(tuple(sizes.values()))
    return jax.sharding.Mesh(grid, tuple(sizes), axis_types=(jax.sharding.AxisType.Explicit,) * len(sizes))


def check(cfg: ModelConfig, rows: int, length: int, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError, naming the flag, if model or batch cannot be split over this mesh."""
    for flag, size, axes in (
        ("rows", rows, BATCH), ("length", length, ("seq",)), ("heads", cfg.heads, ("model",)),
        ("kv_heads", cfg.kv_heads, ("model",)), ("ffn", cfg.ffn, ("model",)),
    ):  # fmt: skip
        if not fits(size, axes, mesh):
            over = " x ".join(f"--mesh_{axis}={mesh.shape[axis]}" for axis in axes)
            raise ValueError(f"--{flag}={size} cannot be split over {over}")


def stored(name: str, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
    """Layout of the parameter `name`; layers are stacked in front. An axis that does not divide stays whole."""
    letters = name.rsplit("_", 1)[-1]
    if len(shape) - len(letters) not in (0, 1) or letters == "D" or not letters.isupper():
        return P(*[None] * len(shape))
    axes = [None] * (len(shape) - len(letters)) + [AXES.get(letter) for letter in letters]
    return P(*(axis if fits(size, axis, mesh) else None for size, axis in zip(shape, axes, strict=True)))


def fits(size: int, axis: Any, mesh: jax.sharding.Mesh) -> bool:
    parts = (axis,) if isinstance(axis, str) else axis or ()
    return size % math.prod(mesh.shape[a] for a in parts) == 0


def specs(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """-> the layout of a whole tree of parameters, moments or averages, by the last name in each path."""

    def spec(path, x):
        names = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
        return stored(names[-1].rsplit("/", 1)[-1], x.shape, mesh) if names else P(*[None] * len(x.shape))

    return jax.tree_util.tree_map_with_path(spec, params)


def layout(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """-> the same as shardings on this mesh."""
    return jax.tree.map(lambda s: jax.NamedSharding(mesh, s), specs(params, mesh), is_leaf=lambda s: isinstance(s, P))


def put(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """Host arrays, or arrays of another mesh, into their places."""
    return jax.tree.map(spread, params, layout(params, mesh))


def spread(x: Any, where: jax.sharding.NamedSharding) -> jax.Array:
    """An array, of which every host has the whole, in its place; a host copies what its devices hold."""
    if isinstance(x, jax.Array) and len(x.sharding.device_set) > 1:
        return jax.device_put(x, where)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, where, lambda piece: x[piece])


def whole(x: jax.Array) -> np.ndarray:
    """-> all of an array, on every host; a collective, if there are several."""
    if not x.is_fully_addressable and not x.is_fully_replicated:
        assert isinstance(x.sharding, jax.NamedSharding)
        x = jax.device_put(x, jax.NamedSharding(x.sharding.mesh, P()))
    return np.asarray(x)


@dataclasses.dataclass(frozen=True)
class ContextParallel:
    """Any attention, of sequences that are split over "seq".

    For its time, heads are split over "seq" instead (Ulysses: Jacobs et al. 2023, arXiv:2309.14509), so that every
    device sees whole rows and all have the same work. Where there are too few heads for that, every device keeps its
    queries and gathers all keys and values.
    """

    inner: Attention

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, scene: Scene, memory=None):
        assert memory is None, "a cache is never split over the sequence"
        parts = math.prod(jax.typeof(q_BTNH).sharding.mesh.shape[axis] for axis in ("model", "seq"))
        N, K = q_BTNH.shape[2], k_BSKH.shape[2]
        if N % parts == 0 and (K % parts == 0 or parts % K == 0):
            queries = keys = P(BATCH, None, ("model", "seq"), None)
            if parts > K:
                k_BSKH, v_BSKH = (jnp.repeat(x, parts // K, 2, out_sharding=HEADS_BTNH) for x in (k_BSKH, v_BSKH))
        else:
            queries, keys = HEADS_BTNH, WHOLE_BSKH
            scene = scene.replace(queries=scene.queries.replace(in_order=False, from_start=False))
        scene = jax.tree.map(jnp.asarray, scene)
        layout = scene_layout(scene, P(*queries[:2]), P(queries[2]))
        scene = jax.tree.map(jax.reshard, scene, layout)
        run = jax.shard_map(
            lambda *args: self.inner(*args)[0],
            in_specs=(queries, keys, keys, layout),
            out_specs=queries,
            check_vma=False,
        )
        out_BTNH = run(jax.reshard(q_BTNH, queries), *jax.reshard((k_BSKH, v_BSKH), keys), scene)
        return jax.reshard(out_BTNH, HEADS_BTNH), None

    def empty(self, cfg, batch, size):
        return self.inner.empty(cfg, batch, size)


def scene_layout(scene: Scene, queries_BT: P = TOKENS_BT, heads_N: P = HEADS_N) -> Scene:
    """-> the scene with a PartitionSpec for every array."""
    return scene.replace(
        queries=jax.tree.map(lambda _: queries_BT, scene.queries),
        keys=jax.tree.map(lambda _: P(BATCH, None), scene.keys),
        rope=rope_layout(scene.rope, heads_N),
        head_N=heads_N,
        layer=P(),
    )


def rope_layout(rope: Rope, heads_N: P) -> Rope:
    """-> what is of each row is split as the batch is."""
    specs = jax.tree.map(lambda x: P(BATCH) if jnp.ndim(x) == 3 else P(), rope)
    return specs.replace(slopes_N=None if rope.slopes_N is None else heads_N)


@dataclasses.dataclass(frozen=True)
class OnMesh:
    """The placement of a model on the current mesh (jax.set_mesh)."""

    act = ACT_BTD

    def attention(self, attention: Attention) -> Attention:
        return ContextParallel(attention)

    def weights(self, w: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """One layer from stored to compute form: whole along FSDP, still split along model."""
        return {name: jax.reshard(x, gathered(x)) for name, x in w.items()}

    def unembed(self, w_DV: jax.Array) -> jax.Array:
        return jax.reshard(w_DV, gathered(w_DV))

    def embed(self, embed_VD: jax.Array, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Every device looks up its own tokens in the whole table."""
        spec, tokens = jax.typeof(embed_VD).sharding.spec, P(*self.act[:2])
        piece = partial(look_up, spec, dtype)
        return jax.shard_map(piece, in_specs=(spec, tokens), out_specs=self.act, check_vma=False)(
            embed_VD, jax.reshard(tokens_BT, tokens)
        )

    def cross_entropy(
        self, hidden_BTD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, target_BT: jax.Array,
        weight_BT: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
        """Every device does its own tokens, with one gathering of the unembedding for all of them."""
        spec, tokens = jax.typeof(w_DV).sharding.spec, P(*self.act[:2])
        split = "model" if spec[1] else None

        def piece(hidden_BTD, w_DV, bias_V, *of_tokens):
            hidden_PD, flat = hidden_BTD.reshape(-1, hidden_BTD.shape[2]), [x.reshape(-1) for x in of_tokens]
            whole_DV: Any = gather(w_DV, P(spec[0], None), hidden_BTD.dtype)
            found: Any = cross_entropy(hidden_PD, whole_DV, bias_V, *flat, split)
            total, nll_P, hit_P = found
            spread = tuple(axis for axes in tokens if axes for axis in ((axes,) if isinstance(axes, str) else axes))
            return jax.lax.psum(total, spread), *(x.reshape(of_tokens[0].shape) for x in (nll_P, hit_P))

        in_specs = (self.act, spec, None if bias_V is None else P(split), tokens, tokens)
        run = jax.shard_map(piece, in_specs=in_specs, out_specs=(P(), tokens, tokens), check_vma=False)
        return run(hidden_BTD, w_DV, bias_V, target_BT, weight_BT)


def gathered(x: jax.Array) -> P:
    return P(*(None if axis == FSDP else axis for axis in jax.typeof(x).sharding.spec))


def born(init: Any, mesh: jax.sharding.Mesh) -> Any:
    """`init` whose results are made in place, piece by piece; else every device first makes them whole."""
    return jax.jit(jax.sharding.auto_axes(init, out_sharding=specs(jax.eval_shape(init), mesh)))()


def place_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Rows that every host has made, which costs milliseconds, to the devices that compute with them."""
    return {name: spread(x, jax.NamedSharding(mesh, TOKENS_BT)) for name, x in batch.items()}
