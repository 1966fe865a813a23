"""What a step needs, foretold: exactly for the state, within a quarter of what the compiler says for all of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import sharding
from longjax.attention.blockwise import Blockwise
from longjax.attention.core import Dense, TokenPositions
from longjax.config import LLAMA2_7B, TINY, ModelConfig
from longjax.methods import Method
from longjax.model.llama import Llama
from longjax.training import memory_estimate
from longjax.training.recipe import Recipe
from longjax.training.remat import REMAT
from longjax.training.train_step import init_train_state, train_step
from small import SMALL

EVERYTHING = jax.checkpoint_policies.everything_saveable
MINI = ModelConfig(vocab=512, dim=64, layers=4, heads=2, kv_heads=2, ffn=192, dtype="float32")
MID = ModelConfig(vocab=8192, dim=512, layers=8, heads=8, kv_heads=4, ffn=1408, dtype="float32")
GB = 1e9


def shapes(model, mesh=None):
    """-> the model's parameters, as shapes, in their places."""

    def init():
        one = jnp.zeros((1, 8), jnp.int32)
        return Llama(model.cfg, model.method).init(jax.random.key(0), one, TokenPositions.whole(1, 8), 8)["params"]

    params = jax.eval_shape(init)
    if mesh is None:
        return params
    where = sharding.layout(params, mesh)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), params, where)


def traced(model, recipe, rows, length, mesh=None):
    """-> a step, its state and its batch, as shapes."""
    state = jax.eval_shape(lambda p: init_train_state(model, recipe, p), shapes(model, mesh))
    where = mesh and jax.NamedSharding(mesh, sharding.TOKENS_BT)
    ids, weights = (jax.ShapeDtypeStruct((rows, length), t, sharding=where) for t in (jnp.int32, jnp.float32))
    batch = {"tokens_BT": ids, "targets_BT": ids, "index_BT": ids, "weights_BT": weights}
    return train_step.trace(model, recipe, state, batch), state, batch


def on(axes):
    """-> a mesh without devices."""
    return jax.sharding.AbstractMesh(tuple(axes.values()), tuple(axes), (jax.sharding.AxisType.Explicit,) * len(axes))


@pytest.mark.parametrize(
    ("cfg", "softmax", "rows", "micro_rows", "length", "keep"),
    [
        (TINY, Dense(), 4, None, 64, None),
        (MINI, Dense(), 2, 1, 1024, EVERYTHING),
        (MID, Dense(), 4, 1, 1024, None),
        (MID, Blockwise(256, 256), 4, 1, 1024, None),
    ],
    ids=["tiny", "mini", "mid", "blockwise"],
)
def test_estimate_is_near_what_the_compiler_says(cfg, softmax, rows, micro_rows, length, keep):
    model, recipe = (
        Llama(cfg, train=True, backend=softmax, remat_policy=keep),
        Recipe(batch_size=rows, micro_batch_size=micro_rows),
    )
    step, state, batch = traced(model, recipe, rows, length)
    found = memory_estimate.estimate(step, state, batch)
    compiled = memory_estimate.compiled_bytes(step.lower().compile())
    assert sum(found) == pytest.approx(compiled, rel=0.25)


def test_blockwise_memory_is_linear_in_length():
    model, recipe = Llama(TINY, train=True, backend=Blockwise(128, 128)), Recipe(batch_size=1)
    short, long = (
        memory_estimate.compiled_bytes(traced(model, recipe, 1, T)[0].lower().compile()) for T in (1024, 4096)
    )
    assert long < 4.5 * short  # 16 times for whatever is kept of every pair of tiles


def test_state_and_batch_are_exact():
    mesh = sharding.make_mesh(data=1, fsdp=4, model=2)
    cfg = dataclasses.replace(TINY, vocab=96)
    for method in (Method(), SMALL["longlora"]):
        model, recipe = Llama(cfg, method, train=True, placement=sharding.MeshPlacement()), Recipe(batch_size=8)
        with jax.set_mesh(mesh):
            zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes(model))
            state, rows = (
                init_train_state(model, recipe, sharding.shard_params(zeros, mesh)),
                np.zeros((8, 64), np.int32),
            )
            batch = dict.fromkeys(("tokens_BT", "targets_BT", "index_BT"), rows) | {"weights_BT": rows.astype("f")}
            batch = sharding.place_batch(batch, mesh)
            found = memory_estimate.estimate(train_step.trace(model, recipe, state, batch), state, batch)

        def on_first(tree):
            pieces = [x.addressable_shards[0].data for x in jax.tree.leaves(tree)]
            return sum(x.size * x.dtype.itemsize for x in pieces)

        assert found.parameters == on_first((state.trained, state.frozen))
        assert found.moments == on_first(state.opt_state)
        assert found.average == on_first(state.ema)
        assert found.batch == on_first(batch) == 4 * 8 * 64 * 4 / 4
        assert (found.parameters > 2 * found.average) == (method != Method())  # LoRA: no average of what is frozen


@pytest.mark.parametrize(("fsdp", "gigabytes"), [(2, 67.4), (4, 33.7), (8, 16.8)])
def test_llama2_7b(fsdp, gigabytes):
    """6.74e9 parameters in float32: 27.0 GB, and as much for each moment, the average and the gradient's sum."""
    mesh = on({"data": 1, "fsdp": fsdp, "seq": 1, "model": 1})
    model = Llama(LLAMA2_7B, train=True, placement=sharding.MeshPlacement())
    with jax.sharding.use_abstract_mesh(mesh):
        found = memory_estimate.estimate(
            *traced(model, Recipe(batch_size=2 * fsdp, micro_batch_size=fsdp), 2 * fsdp, 512, mesh)
        )
    assert found.parameters * fsdp / GB == pytest.approx(26.95, abs=0.02)  # norms are not split
    assert found.average == found.parameters
    assert found.moments == pytest.approx(2 * found.parameters, rel=1e-6)  # and two counters
    state = found.parameters + found.moments + found.average
    assert (state + found.parameters) / GB == pytest.approx(gigabytes, abs=0.1)
    # the sum, a micro-batch's, and some of an update at work: how much depends on the versions of jax and optax
    assert 1.99 < found.gradients / found.parameters < 3.1


def test_remat_and_slices_bound_what_grows():
    """Without remat every layer keeps its work; with it the residual stream only. The logits are never whole."""
    recipe, found = Recipe(batch_size=1), {}
    for name, keep in REMAT.items():
        found[name] = memory_estimate.estimate(*traced(Llama(MID, train=True, remat_policy=keep), recipe, 1, 1024))
    stream = MID.layers * 1024 * MID.dim * 4
    assert found["full"].saved < 1.6 * stream
    assert found["offload"].saved < 1.6 * stream  # what dots keeps is in the host's memory
    assert found["dots"].saved > 5 * stream
    assert found["none"].saved > 10 * stream
    assert found["full"].parameters == found["none"].parameters


def test_table():
    GiB = 2**30
    found = memory_estimate.MemoryEstimate(4 * GiB, 8 * GiB, 4 * GiB, 0, 4 * GiB, 2 * GiB, 3 * GiB)
    said = memory_estimate.memory_table(found, compiled=26 * GiB, limit=30 * GiB)
    assert said.splitlines()[1].split() == ["parameters", "4.00"]
    assert "estimate                     25.00" in said
    assert "compiled                     26.00" in said
    assert said.endswith("30.00  fits, as would 2.0 times the micro-batch")
    assert memory_estimate.memory_table(found, limit=22 * GiB).endswith("does not fit, 0.4 times the micro-batch would")
    assert "does not fit with any micro-batch" in memory_estimate.memory_table(found, limit=20 * GiB)
    assert len(memory_estimate.memory_table(found).splitlines()) == 9
    assert memory_estimate.limit_bytes(jax.devices()[0]) is None
