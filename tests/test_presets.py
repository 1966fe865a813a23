"""Every preset at its real size, on a mesh without devices: the training step is traced and its memory foretold."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from longjax import sharding
from longjax.attention.backends import default_backend
from longjax.attention.core import TokenPositions
from longjax.methods import METHODS
from longjax.methods import method as methods_method
from longjax.model.llama import Llama
from longjax.study.presets import PRESETS
from longjax.training import memory_estimate, remat
from longjax.training.optimizer import learning_rate_schedule
from longjax.training.train_step import init_train_state, train_step

H200 = 139.0  # GiB
REAL = {  # preset -> (method, devices: fsdp, seq)
    "paper": ("yarn", 8, 1),
    "lceg_script": ("pi", 8, 1),
    "longlora": ("longlora", 8, 1),
    "landmark": ("landmark", 8, 1),
    "clex": ("clex", 8, 1),
    "prolong_64k": ("theta", 8, 1),
    "prolong_512k": ("theta", 8, 8),
    "phi2": ("ntk_64k", 8, 1),
}


def placed(shapes, mesh):
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, sharding.layout(shapes, mesh)
    )


@pytest.mark.parametrize("name", REAL)
def test_a_preset_traces_and_fits(name):
    preset, (method_name, fsdp, seq) = PRESETS[name], REAL[name]
    method = METHODS[method_name](**preset.settings.get(method_name, {}))
    cfg, recipe = (
        methods_method.with_inserted_token(preset.model, method),
        dataclasses.replace(preset.extend, micro_batch_size=fsdp),
    )
    axes = {"data": 1, "fsdp": fsdp, "seq": seq, "model": 1}
    explicit = (jax.sharding.AxisType.Explicit,) * len(axes)
    mesh = jax.sharding.AbstractMesh(tuple(axes.values()), tuple(axes), explicit)
    model = Llama(
        cfg,
        method,
        train=True,
        backend=default_backend("gpu"),
        placement=sharding.MeshPlacement(),
        remat_policy=remat.REMAT[preset.remat],
    )
    start = TokenPositions.whole(1, 8)
    shapes = jax.eval_shape(lambda: Llama(cfg, method).init(
        jax.random.key(0), jnp.zeros((1, 8), jnp.int32), start, 8))["params"]  # fmt: skip
    rows, length = recipe.batch_size, preset.extended
    if method.row_length:
        rows, length = rows * length // method.row_length, method.row_length * 65 // 64
    with jax.sharding.use_abstract_mesh(mesh):
        state = jax.eval_shape(partial(init_train_state, model, recipe), placed(shapes, mesh))
        where = jax.NamedSharding(mesh, sharding.TOKENS_BT)
        ids, weights = (jax.ShapeDtypeStruct((rows, length), t, sharding=where) for t in (jnp.int32, jnp.float32))
        batch = {"tokens_BT": ids, "targets_BT": ids, "index_BT": ids, "weights_BT": weights}
        found = memory_estimate.estimate(train_step.trace(model, recipe, state, batch), state, batch)
    assert 10 < sum(found) / memory_estimate.GIB < H200, memory_estimate.summary_line(found)
    assert max(preset.lengths) >= 2 * preset.extended or name == "clex"
    rate = learning_rate_schedule(recipe)
    assert float(rate(recipe.warmup)) == pytest.approx(recipe.learning_rate, rel=1e-3)
