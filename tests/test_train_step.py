import contextlib
import dataclasses
import json
import os
import re
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import sharding
from longjax.attention.core import Dense
from longjax.attention.fused import Fused
from longjax.attention.kernels.reference import Reference
from longjax.checkpoints.resize_vocab import resize_vocab
from longjax.data import RowBatch
from longjax.inference.score import Scorer
from longjax.methods import Method, with_lora
from longjax.methods import method as methods_method
from longjax.model.llama import Llama
from longjax.training import remat
from longjax.training.batch import as_batch, prefetch
from longjax.training.checkpoint import RunMetadata, TrainCheckpointer
from longjax.training.init_from import init_from_checkpoint
from longjax.training.optimizer import learning_rate_schedule, optimizer
from longjax.training.recipe import Recipe
from longjax.training.skip_step import SkipStepState
from longjax.training.train_step import init_train_state, train_step
from small import SMALL
from test_laws import CFG, T, params

RECIPE = Recipe(steps=6, batch_size=4, learning_rate=1e-3, warmup=2, ema_decay=0.9)
RNG = np.random.default_rng(3)
TOKENS = RNG.integers(0, CFG.vocab, (8, 4, T + 1)).astype(np.int32)
WEIGHTS = (RNG.uniform(size=(8, 4, T)) < RNG.uniform(size=(8, 4, 1))).astype(np.float32)  # rows of unequal weight


def batch(step, method=Method()):
    return as_batch(RowBatch(TOKENS[step], WEIGHTS[step]), method, CFG)


def trained(recipe, steps, method=Method(), start=None):
    model = Llama(CFG, method, train=True)
    state = start or init_train_state(model, recipe, params(method))
    for step in range(int(state.step), steps):
        state, metrics = train_step(model, recipe, state, batch(step, method))
    return state, metrics


def test_micro_batches_change_nothing():
    whole, once = trained(RECIPE, 1)
    for rows in (1, 2):
        parts, metrics = trained(dataclasses.replace(RECIPE, micro_batch_size=rows), 1)
        np.testing.assert_allclose(metrics["loss"], once["loss"], rtol=1e-6)
        np.testing.assert_allclose(metrics["grad_norm"], once["grad_norm"], rtol=1e-5)
        for path, x in parts.trained.items():  # Adam's first step is the rate where the gradient is rounding noise
            assert np.abs(x - whole.trained[path]).mean() < 1e-6, path


def test_micro_batches_divide_an_update():
    with pytest.raises(ValueError, match="--micro_batch_size=3 must divide the 4 rows"):
        trained(dataclasses.replace(RECIPE, micro_batch_size=3), 1)


def test_what_is_computed_again_changes_nothing():
    found = {}
    softmax = Fused(Reference(), Dense())
    for name in remat.REMAT.keys() - {"offload"}:  # "offload" is "dots" in another memory, which CPUs do not have
        model = Llama(CFG, Method(), train=True, backend=softmax, remat_policy=remat.REMAT[name])
        _, numbers = train_step(model, RECIPE, init_train_state(model, RECIPE, params(Method())), batch(0))
        found[name] = (float(numbers["loss"]), float(numbers["grad_norm"]))
    np.testing.assert_allclose([*found.values()], [found["full"]] * len(found), rtol=1e-6)


def test_attention_is_computed_once_where_its_result_is_kept():
    """Its exponentials are taken twice forward and once backward; twice more where nothing is kept."""
    counts = {}
    for name in ("full", "attention", "qkv"):
        model = Llama(CFG, Method(), train=True, backend=Fused(Reference(), Dense()), remat_policy=remat.REMAT[name])
        state = init_train_state(model, RECIPE, params(Method()))
        program = str(train_step.trace(model, RECIPE, state, batch(0)).jaxpr)
        counts[name] = len(re.findall(rf"f32\[4,2,2,{T},{T}\] = exp", program))
    assert counts == {"full": 5, "attention": 3, "qkv": 3}


SMALL_STATE = dataclasses.replace(RECIPE, state_dtype="bfloat16")


def test_a_small_state_is_a_small_state():
    """Weights in two 16-bit halves and moments in bfloat16, the average not; the update is that of float32."""
    start = init_train_state(Llama(CFG, train=True), SMALL_STATE, params(Method()))
    kept = jax.tree.leaves((start.trained, start.opt_state))
    assert {x.dtype for x in kept if x.ndim} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in start.missing_bits.values()} == {jnp.dtype(jnp.uint16)}
    assert {x.dtype for x in start.ema.values()} == {jnp.dtype(jnp.float32)}
    equal(start.master_weights(), fresh().trained)
    rounded = fresh().replace(trained={path: x.astype(jnp.float32) for path, x in start.trained.items()})
    before = {path: np.asarray(x) for path, x in rounded.trained.items()}
    (state, got), (exact, wanted) = trained(SMALL_STATE, 1, start=start), trained(RECIPE, 1, start=rounded)
    np.testing.assert_allclose(float(got["loss"]), float(wanted["loss"]), rtol=1e-6)
    for path, x in state.master_weights().items():  # gradients in bfloat16 may change the sign of Adam's first step
        moved, should = x - fresh().trained[path], exact.trained[path] - before[path]
        assert np.abs(moved - should).mean() < 0.02 * np.abs(should).mean(), path


def test_a_small_state_learns_what_a_large_one_learns():
    """At a rate that rounding to nearest would lose. Within 1 %; the first loss is the model's, and half is learned."""
    losses = {}
    for state_dtype in ("float32", "bfloat16"):
        recipe = dataclasses.replace(RECIPE, steps=60, learning_rate=1e-4, b2=0.999, state_dtype=state_dtype)
        state, losses[state_dtype] = init_train_state(Llama(CFG, train=True), recipe, params(Method())), []
        for _ in range(60):
            state, metrics = train_step(Llama(CFG, train=True), recipe, state, batch(0))
            losses[state_dtype].append(float(metrics["loss"]))
    assert losses["float32"][-1] < 0.9 * losses["float32"][0]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.01)


def test_a_small_state_resumes_exactly(tmp_path):
    whole = trained(SMALL_STATE, 4, start=fresh(recipe=SMALL_STATE))[0]
    with saves(tmp_path) as checkpoints:
        checkpoints.save(trained(SMALL_STATE, 2, start=fresh(recipe=SMALL_STATE))[0])
    with saves(tmp_path) as checkpoints:
        resumed = checkpoints.restore(fresh(recipe=SMALL_STATE))
    equal(trained(SMALL_STATE, 4, start=resumed)[0], whole)


def test_a_small_state_of_an_older_release_resumes(tmp_path):
    """It has no missing bits: its weights are no more precise than bfloat16."""
    with saves(tmp_path) as checkpoints:
        checkpoints.save(old := trained(SMALL_STATE, 2, start=fresh(recipe=SMALL_STATE))[0])
    old = jax.tree.map(np.asarray, old)
    shutil.rmtree(tmp_path / "2" / "missing_bits")
    with saves(tmp_path) as checkpoints:
        resumed = checkpoints.restore(fresh(recipe=SMALL_STATE))
    equal(resumed.trained, old.trained)
    equal(resumed.master_weights(), {path: x.astype(np.float32) for path, x in old.trained.items()})


def test_the_average_follows_its_formula():
    start = init_train_state(Llama(CFG, train=True), RECIPE, params(Method()))
    average = {path: np.asarray(x, np.float64) for path, x in start.ema.items()}
    state = start
    for step in range(3):
        state, _ = train_step(Llama(CFG, train=True), RECIPE, state, batch(step))
        average = {path: 0.9 * x + 0.1 * np.asarray(state.trained[path], np.float64) for path, x in average.items()}
    for path, x in state.ema.items():
        np.testing.assert_allclose(x, average[path], atol=1e-6)


def test_the_rate_warms_up_and_decays():
    rate = learning_rate_schedule(Recipe(steps=100, warmup=10, learning_rate=1.0, schedule="cosine", min_lr_ratio=0.1))
    got = np.array([float(rate(step)) for step in range(101)])
    np.testing.assert_allclose(got[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert (np.diff(got[10:]) <= 0).all()
    np.testing.assert_allclose(got[100], 0.1, rtol=1e-5)


def test_only_what_is_trainable_moves():
    method = SMALL["longlora"]
    model = Llama(CFG, method, train=True)
    start = init_train_state(model, RECIPE, params(method))
    assert any("lora_q_a" in path for path in start.trained)
    assert {"embed_VD", "attn_norm_D", "norm_D"} <= start.trained.keys()
    assert {"q_DNH", "unembed_DV", "down_FD"} <= start.frozen.keys()
    moments = jax.tree.leaves(start.opt_state)
    assert sum(x.size for x in moments) < 2 * sum(x.size for x in start.trained.values()) + 10
    before = {path: np.asarray(x) for path, x in start.frozen.items()}
    moving = {path: np.asarray(x) for path, x in start.trained.items()}
    state, _ = trained(RECIPE, 2, method, start)
    for path, x in before.items():
        np.testing.assert_array_equal(state.frozen[path], x)
    assert all(np.abs(state.trained[path] - x).max() > 0 for path, x in moving.items())


def test_a_frozen_method_is_not_trained():
    with pytest.raises(ValueError, match="trains no parameter"):
        init_train_state(Llama(CFG, SMALL["self_extend"]), RECIPE, params(Method()))


def saves(folder, what="pi", plan="abc", keep=2):
    return TrainCheckpointer(folder, RunMetadata({"method": what}, plan, RECIPE.batch_size), keep)


def fresh(recipe=RECIPE):
    return init_train_state(Llama(CFG, train=True), recipe, params(Method()))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_resuming_is_exact(tmp_path):
    straight, _ = trained(RECIPE, 4)
    half, _ = trained(RECIPE, 2)
    with saves(tmp_path) as first:
        first.save(half)
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()  # a save that was killed
    with saves(tmp_path) as second:
        restored = second.restore(fresh())
    assert int(restored.step) == 2
    again, _ = trained(RECIPE, 4, start=restored)
    equal((again.ema, again.opt_state, again.skip_step), (straight.ema, straight.opt_state, straight.skip_step))
    data = json.loads((tmp_path / "2" / "data" / "metadata").read_text())
    assert data == {"plan": "abc", "rows_seen": 2 * RECIPE.batch_size}


@pytest.mark.parametrize("harm", ["empty", "no_meta", "truncated", "no_params"])
def test_a_torn_newest_checkpoint_is_left_out(tmp_path, capsys, harm):
    folder = tmp_path / "checkpoints"
    with saves(folder) as checkpoints:
        for steps in (1, 2):
            checkpoints.save(trained(RECIPE, steps)[0])
    torn = folder / "2"
    if harm == "empty":
        shutil.rmtree(torn)
        torn.mkdir()
    elif harm == "no_meta":
        (torn / "meta" / "metadata").unlink()
    elif harm == "no_params":
        shutil.rmtree(torn / "params")
    else:
        for path in (torn / "params").rglob("*"):
            if path.is_file() and path.stat().st_size > 2000:
                os.truncate(path, 1000)
    with saves(folder) as checkpoints:
        state = checkpoints.restore(fresh())
        assert int(state.step) == 1
        state, _ = train_step(Llama(CFG, train=True), RECIPE, state, batch(1))
        checkpoints.save(state)  # the step that was torn, once more
    assert "checkpoints/2 is corrupt, skipped" in capsys.readouterr().err
    with saves(folder) as checkpoints:
        equal(checkpoints.restore(fresh()).ema, trained(RECIPE, 2)[0].ema)


def test_a_checkpoint_goes_on_only_in_its_own_run(tmp_path):
    with saves(tmp_path) as checkpoints:
        checkpoints.save(trained(RECIPE, 1)[0])
    for other, said in ((saves(tmp_path, what="yarn"), "another method"), (saves(tmp_path, plan="x"), "another plan")):
        with other as checkpoints, pytest.raises(ValueError, match=said):
            checkpoints.restore(fresh())


@contextlib.contextmanager
def no_file_beyond(size):
    """A disk that takes no more: the kernel refuses to write beyond `size` bytes of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def save_two(folder):
    with saves(folder) as checkpoints:
        checkpoints.save(trained(RECIPE, 2)[0])


def test_a_full_disk_is_one_line_and_leaves_the_older_ones(tmp_path):
    trained(RECIPE, 2)  # compile before the disk is full
    with saves(tmp_path) as checkpoints:
        checkpoints.save(trained(RECIPE, 1)[0])
    with no_file_beyond(10_000), pytest.raises(ValueError, match="cannot be written, earlier checkpoints are complete"):
        save_two(tmp_path)
    with saves(tmp_path) as checkpoints:
        assert int(checkpoints.restore(fresh()).step) == 1


def test_another_run_begins_with_weights_and_moments(tmp_path):
    old, _ = trained(RECIPE, 3)
    with saves(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(old)
    plain = init_from_checkpoint(tmp_path, fresh(), init_opt_state=False)
    equal(plain.trained, old.trained)
    equal(plain.ema, old.trained)
    equal(plain.opt_state, fresh().opt_state)
    warm = init_from_checkpoint(tmp_path, fresh(), init_opt_state=True)
    adam, schedule_state = warm.opt_state[1][0], warm.opt_state[1][2]
    equal(adam.mu, old.opt_state[1][0].mu)
    assert (int(warm.step), int(adam.count), int(schedule_state.count)) == (0, 3, 0)
    with pytest.raises(ValueError, match="has no checkpoints"):
        init_from_checkpoint(tmp_path / "nowhere", fresh(), init_opt_state=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_step_that_is_no_number_changes_nothing():
    model, state = Llama(CFG, train=True), fresh()
    state, _ = train_step(model, RECIPE, state, batch(0))
    before = jax.tree.map(np.asarray, state)
    bad = batch(1) | {"weights_BT": np.full_like(WEIGHTS[1], np.nan)}
    state, numbers = train_step(model, RECIPE, state, bad)
    equal((state.trained, state.ema, state.opt_state), (before.trained, before.ema, before.opt_state))
    assert (int(state.step), int(numbers["skipped"]), int(numbers["consecutive_skips"])) == (2, 1, 1)
    state, numbers = train_step(model, RECIPE, state, batch(2))
    assert (int(numbers["skipped"]), int(numbers["consecutive_skips"])) == (1, 0)
    # the rate goes on where it was: warm-up's second step, though this is the third batch
    np.testing.assert_allclose(numbers["learning_rate"], learning_rate_schedule(RECIPE)(1), rtol=1e-6)


def test_a_spike_is_left_out():
    guard, calm = SkipStepState.new(), jnp.float32(2.0)
    for step in range(40):
        loss = calm + 0.01 * (step % 5)
        assert bool(guard.should_apply(loss, calm, 6.0))
        guard = guard.after(jnp.bool_(True), jnp.int32(step), loss, calm + 0.01 * (step % 3))
    assert not bool(guard.should_apply(calm + 1, calm, 6.0))
    assert not bool(guard.should_apply(calm, calm + 1, 6.0))
    assert bool(guard.should_apply(calm + 1, calm, 0.0))  # it was not asked for
    assert bool(SkipStepState.new().should_apply(calm + 100, calm, 6.0))  # nothing is known yet


def test_the_first_moment_may_be_short():
    recipe = dataclasses.replace(RECIPE, mu_dtype="bfloat16")
    state = init_train_state(Llama(CFG, train=True), recipe, params(Method()))
    adam = state.opt_state[1][0]
    assert {x.dtype for x in adam.mu.values()} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in adam.nu.values()} == {jnp.dtype("float32")}
    short, long = trained(recipe, 3)[1], trained(RECIPE, 3)[1]
    np.testing.assert_allclose(short["loss"], long["loss"], rtol=1e-3)  # 8 bits of a rate of 1e-3


def test_learned_frequencies_are_clipped_apart_and_have_a_rate_of_their_own():
    """However steep they are, the rest learns the same; unless one norm is asked for."""
    weights = {"method/up_RP": jnp.ones((2, 3)), "method/layers/lora_a": jnp.ones(2), "embed_VD": jnp.ones((4, 2))}
    gentle = jax.tree.map(lambda x: x * jnp.arange(x.size, dtype=jnp.float32).reshape(x.shape), weights)
    steep = gentle | {"method/up_RP": 1e9 * gentle["method/up_RP"]}

    def moved(grads, **recipe):
        how = optimizer(dataclasses.replace(RECIPE, eps=1e-3, warmup=0, **recipe))  # Adam forgets no size
        with jax.numpy_dtype_promotion("standard"):
            return how.update(grads, how.init(weights), weights)[0]

    rest = weights.keys() - {"method/up_RP"}
    for name in rest:
        np.testing.assert_array_equal(moved(steep)[name], moved(gentle)[name])
        assert (
            np.abs(moved(steep, joint_clip=True)[name]).max()
            < 1e-3 * np.abs(moved(gentle, joint_clip=True)[name]).max()
        )
    slow, fast = moved(gentle, frequency_rate=0.25), moved(gentle)
    np.testing.assert_allclose(slow["method/up_RP"], 0.25 * fast["method/up_RP"], rtol=1e-6)
    equal({name: slow[name] for name in rest}, {name: fast[name] for name in rest})


def test_no_average_is_kept_if_none_is_asked_for():
    state, _ = trained(dataclasses.replace(RECIPE, ema_decay=0.0), 2)
    assert state.ema == {}
    equal(state.params(average=True), state.params())


def test_loss_by_position_adds_up():
    _, numbers = trained(RECIPE, 1)
    np.testing.assert_allclose(numbers["loss_P"].sum() / numbers["weight_P"].sum(), numbers["loss"], rtol=1e-6)


def test_any_method_may_train_adapters_alone():
    method = with_lora(SMALL["yarn"], rank=2)
    model, recipe = Llama(CFG, method, train=True), dataclasses.replace(RECIPE, frozen_dtype="bfloat16")
    state = init_train_state(model, recipe, params(method))
    assert all("lora_" in path for path in state.trained)
    assert {x.dtype for x in state.frozen.values()} == {jnp.dtype("bfloat16")}
    start = {path: np.asarray(x) for path, x in state.trained.items()}
    state, numbers = train_step(model, recipe, state, batch(0, method))
    assert np.isfinite(numbers["loss"])
    assert all(np.abs(np.asarray(x) - start[path]).max() > 0 for path, x in state.trained.items() if "_b_" in path)
    with pytest.raises(ValueError, match="--lora_rank: the method already has adapters"):
        with_lora(SMALL["longlora"])


def test_documents_stay_apart_through_pieces_and_landmarks():
    start_BT = np.zeros((1, T), np.int32)
    start_BT[:, 20:] = 20
    rows = RowBatch(TOKENS[0][:1], WEIGHTS[0][:1], start_BT)
    made = as_batch(
        rows,
        dataclasses.replace(SMALL["landmark"], row_length=None),
        methods_method.with_inserted_token(CFG, SMALL["landmark"]),
    )
    first = int(np.flatnonzero(made["start_BT"][0])[0])
    assert made["tokens_BT"][0, first] == TOKENS[0][0, 20]
    assert set(made["start_BT"][0]) == {0, first}
    cut = as_batch(rows, dataclasses.replace(Method(), row_length=32), CFG)
    assert cut["start_BT"].tolist() == [[0] * 20 + [20] * 12, [0] * 32]


def test_batches_come_in_order_and_errors_come_through():
    assert list(prefetch(lambda step: step * step, range(3, 10))) == [step * step for step in range(3, 10)]
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda step: 1 // (5 - step), range(10)))


def test_landmarks_are_inserted_and_predicted():
    method = dataclasses.replace(SMALL["landmark"], row_length=32)
    cfg = methods_method.with_inserted_token(CFG, method)
    made = as_batch(RowBatch(TOKENS[0], WEIGHTS[0]), method, cfg)
    assert made["tokens_BT"].shape == (8, 36)  # 33 tokens with their target, a landmark after each seventh
    assert (made["tokens_BT"][:, 7] == CFG.vocab).all()
    assert (made["targets_BT"][:, 6] == CFG.vocab).all()
    assert (made["weights_BT"][:, 6] == 1).all()
    real = made["targets_BT"] != CFG.vocab
    assert made["weights_BT"][real].sum() == WEIGHTS[0].sum()


@pytest.mark.parametrize("name", ["ntk_frozen", "self_extend", "clex", "landmark"])
def test_scores_on_a_mesh_are_those_of_one_device(name):
    method, cfg = SMALL[name], methods_method.with_inserted_token(CFG, SMALL[name])
    p, rows = params(method), TOKENS[0][:3, :T]  # three rows over two devices; with its landmarks, an odd length
    p = resize_vocab(p) if method.insert_tokens else p
    constant = p | {"norm_D": jnp.zeros_like(p["norm_D"])}  # all logits are equal, and the lowest id is a hit
    one, mesh = Scorer(Llama(cfg, method), p), sharding.make_mesh(fsdp=2, seq=2, model=2)
    for params_of_model in (p, constant):
        nll, hit = dataclasses.replace(one, params=params_of_model)(rows, np.full(3, T))
        with jax.set_mesh(mesh):
            spread = sharding.shard_params(params_of_model, mesh)
            score = Scorer(Llama(cfg, method, placement=sharding.MeshPlacement()), spread, mesh)
            nll_mesh, hit_mesh = score(rows, np.full(3, T))
        np.testing.assert_allclose(nll_mesh, nll, atol=3e-5)  # fp32 sums in another order, on values of about 5
        np.testing.assert_array_equal(hit_mesh, hit)
    np.testing.assert_array_equal(hit[:, 1:], rows[:, 1:] == 0)


def test_parameters_are_born_in_their_places():
    mesh = sharding.make_mesh(fsdp=2, seq=2, model=2)
    with jax.set_mesh(mesh):
        made = sharding.init_sharded(lambda: {"q_DNH": jnp.zeros((2, 64, 4, 16)), "norm_D": jnp.ones(64)}, mesh)
    assert made["q_DNH"].sharding.spec == jax.P(None, ("fsdp", "seq"), "model", None)
    assert made["q_DNH"].addressable_shards[0].data.shape == (2, 16, 2, 16)
