import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import launch, sharding
from longjax.checkpoint import Checkpoints
from longjax.llama import Llama
from longjax.methods import Method
from longjax.score import Scorer
from longjax.train import Recipe, new_state, schedule, train_step
from small import SMALL
from test_laws import CFG, T, params

RECIPE = Recipe(steps=6, rows=4, learning_rate=1e-3, warmup=2, ema=0.9)
RNG = np.random.default_rng(3)
TOKENS = RNG.integers(0, CFG.vocab, (8, 4, T + 1)).astype(np.int32)
WEIGHTS = (RNG.uniform(size=(8, 4, T)) < RNG.uniform(size=(8, 4, 1))).astype(np.float32)  # rows of unequal weight


def batch(step, method=Method()):
    return launch.as_batch(TOKENS[step], WEIGHTS[step], method, CFG)


def trained(recipe, steps, method=Method(), start=None):
    model = Llama(CFG, method, train=True)
    state = start or new_state(model, recipe, params(method))
    for step in range(int(state.step), steps):
        state, metrics = train_step(model, recipe, state, batch(step, method))
    return state, metrics


def test_micro_batches_change_nothing():
    whole, once = trained(RECIPE, 1)
    for rows in (1, 2):
        parts, metrics = trained(dataclasses.replace(RECIPE, micro_rows=rows), 1)
        np.testing.assert_allclose(metrics["loss"], once["loss"], rtol=1e-6)
        np.testing.assert_allclose(metrics["grad_norm"], once["grad_norm"], rtol=1e-5)
        for path, x in parts.trained.items():  # Adam's first step is the rate where the gradient is rounding noise
            assert np.abs(x - whole.trained[path]).mean() < 1e-6, path


def test_the_average_follows_its_formula():
    start = new_state(Llama(CFG, train=True), RECIPE, params(Method()))
    average = {path: np.asarray(x, np.float64) for path, x in start.ema.items()}
    state = start
    for step in range(3):
        state, _ = train_step(Llama(CFG, train=True), RECIPE, state, batch(step))
        average = {path: 0.9 * x + 0.1 * np.asarray(state.trained[path], np.float64) for path, x in average.items()}
    for path, x in state.ema.items():
        np.testing.assert_allclose(x, average[path], atol=1e-6)


def test_the_rate_warms_up_and_decays():
    rate = schedule(Recipe(steps=100, warmup=10, learning_rate=1.0, decay_to=0.1))
    got = np.array([float(rate(step)) for step in range(101)])
    np.testing.assert_allclose(got[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert (np.diff(got[10:]) <= 0).all()
    np.testing.assert_allclose(got[100], 0.1, rtol=1e-5)


def test_only_what_is_trainable_moves():
    method = SMALL["longlora"]
    model = Llama(CFG, method, train=True)
    start = new_state(model, RECIPE, params(method))
    assert any("lora_q_a" in path for path in start.trained)
    assert {"embed_VD", "attn_norm_D", "norm_D"} <= start.trained.keys()
    assert {"q_DNH", "unembed_DV", "down_FD"} <= start.frozen.keys()
    moments = jax.tree.leaves(start.opt)
    assert sum(x.size for x in moments) < 2 * sum(x.size for x in start.trained.values()) + 10
    before = {path: np.asarray(x) for path, x in start.frozen.items()}
    moving = {path: np.asarray(x) for path, x in start.trained.items()}
    state, _ = trained(RECIPE, 2, method, start)
    for path, x in before.items():
        np.testing.assert_array_equal(state.frozen[path], x)
    assert all(np.abs(state.trained[path] - x).max() > 0 for path, x in moving.items())


def test_a_frozen_method_is_not_trained():
    with pytest.raises(ValueError, match="trains no parameter"):
        new_state(Llama(CFG, SMALL["self_extend"]), RECIPE, params(Method()))


def test_resuming_is_exact(tmp_path):
    straight, _ = trained(RECIPE, 4)
    half, _ = trained(RECIPE, 2)
    first = Checkpoints(tmp_path)
    first.save(half)
    first.close()
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()  # a save that was killed
    second = Checkpoints(tmp_path)
    restored = second.restore(new_state(Llama(CFG, train=True), RECIPE, params(Method())))
    second.close()
    assert int(restored.step) == 2
    again, _ = trained(RECIPE, 4, start=restored)
    for path, x in straight.ema.items():
        np.testing.assert_array_equal(again.ema[path], x)


def test_landmarks_are_inserted_and_predicted():
    method = dataclasses.replace(SMALL["landmark"], piece=32)
    cfg = launch.grown(CFG, method)
    made = launch.as_batch(TOKENS[0], WEIGHTS[0], method, cfg)
    assert made["tokens_BT"].shape == (8, 36)  # 33 tokens with their target, a landmark after each seventh
    assert (made["tokens_BT"][:, 7] == CFG.vocab).all()
    assert (made["targets_BT"][:, 6] == CFG.vocab).all()
    assert (made["weights_BT"][:, 6] == 1).all()
    real = made["targets_BT"] != CFG.vocab
    assert made["weights_BT"][real].sum() == WEIGHTS[0].sum()


@pytest.mark.parametrize("name", ["ntk_frozen", "self_extend", "clex", "landmark"])
def test_scores_on_a_mesh_are_those_of_one_device(name):
    method = SMALL[name] if name != "landmark" else dataclasses.replace(SMALL[name], insert=None)
    p, rows = params(method), TOKENS[0][:3, :T]  # three rows over two devices
    nll, hit = Scorer(Llama(CFG, method), p)(rows, np.full(3, T))
    mesh = sharding.make_mesh(fsdp=2, seq=2, model=2)
    with jax.set_mesh(mesh):
        score = Scorer(Llama(CFG, method, place=sharding.OnMesh()), sharding.put(p, mesh), mesh)
        nll_mesh, hit_mesh = score(rows, np.full(3, T))
    np.testing.assert_allclose(nll_mesh, nll, atol=3e-5)  # fp32 sums in another order, on values of about 5
    np.testing.assert_array_equal(hit_mesh, hit)


def test_parameters_are_born_in_their_places():
    mesh = sharding.make_mesh(fsdp=2, seq=2, model=2)
    with jax.set_mesh(mesh):
        made = sharding.born(lambda: {"q_DNH": jnp.zeros((2, 64, 4, 16)), "norm_D": jnp.ones(64)}, mesh)
    assert made["q_DNH"].sharding.spec == jax.P(None, ("fsdp", "seq"), "model", None)
    assert made["q_DNH"].addressable_shards[0].data.shape == (2, 16, 2, 16)
