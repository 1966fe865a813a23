"""What must hold for every method. A method added to METHODS is held to all of it."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import sharding
from longjax.attention.blockwise import Blockwise
from longjax.attention.core import Dense, TokenPositions
from longjax.config import TINY
from longjax.methods import METHODS
from longjax.methods.method import all_trainable, no_params, plain_rope
from longjax.model.llama import Llama, logits
from longjax.training.recipe import Recipe
from longjax.training.train_step import init_train_state, train_step
from shape_names import checked
from small import ALL, SMALL, T

B = 2
CFG = dataclasses.replace(TINY, vocab=96)  # even, so that it splits
TOKENS = np.random.default_rng(0).integers(0, CFG.vocab, (B, T)).astype(np.int32)
ONE_CALL_IS_SPECIAL = {"lm_infinite_topk"}  # by its definition the last query of a call sees more than the others
every_method = pytest.mark.parametrize("name", ALL)
OF_ITS_OWN = [name for name in ALL if ALL[name].attention_train]  # all others train on the program that they evaluate


def program(method):
    """-> what the operations of a method's program follow from: all but the numbers that are its frequencies."""
    if method.init_params is no_params:  # else its frequencies are computed in the program
        rope = method.rope(CFG, T, {}, None)
        kind = jax.tree.structure(rope), rope.inv_freq_R.shape, rope.scale == 1, rope.query_scale == 1
        return dataclasses.replace(method, rope=plain_rope, trainable=all_trainable), kind
    return method


PROGRAMS = list({program(ALL[name]): name for name in reversed(ALL)}.values())  # the first of those that share one
every_program = pytest.mark.parametrize("name", PROGRAMS)
every_attention = pytest.mark.parametrize(
    ("name", "train"), [(name, False) for name in PROGRAMS] + [(x, True) for x in OF_ITS_OWN]
)


def params(method, cfg=CFG):
    """New arrays every time: a training step gives its own away."""
    return jax.tree.map(jnp.array, made(dataclasses.replace(method, trainable=all_trainable), cfg))


@functools.cache
def made(method, cfg):
    """Queries and keys wide enough that attention is far from uniform; the method's own parameters are not zero."""
    one = jnp.zeros((1, 8), jnp.int32)
    new = jax.jit(lambda key: Llama(cfg, method).init(key, one, TokenPositions.whole(1, 8), 8)["params"])(
        jax.random.key(0)
    )
    keys = iter(jax.random.split(jax.random.key(1), 100))
    own = jax.tree.map(lambda x: 0.1 * jax.random.normal(next(keys), x.shape), new.get("method", {}))
    wide = {name: x * 2 if name in ("q_DNH", "k_DKH") else x for name, x in new.items()}
    return jax.device_get(wide | ({"method": own} if own else {}))


def test_small_covers_all_methods():
    """All but the base that is only trained on: its program is the base's."""
    assert SMALL.keys() | {"continued"} == METHODS.keys()


@pytest.mark.parametrize("name", [name for name in ALL if name not in ONE_CALL_IS_SPECIAL])
def test_one_token_at_a_time_is_one_pass(name):
    """Chunks of a prefill, then single tokens; the rows of a padded batch have different true lengths."""
    model, p = Llama(CFG, ALL[name]), params(ALL[name])
    run = jax.jit(lambda p, x, where, cache: model.apply({"params": p}, x, where, T, cache))
    whole, _ = run(p, TOKENS, TokenPositions.whole(B, T), None)
    ends_B = np.array([40, 33])  # of the prompts
    cache, got = model.init_cache(B, T, T), np.zeros(whole.shape, np.float32)
    for start, stop in ((0, 21), (21, 42)):  # of one size, so that they are one program
        index_BT = np.broadcast_to(np.arange(start, stop, dtype=np.int32), (B, stop - start))
        where = TokenPositions.at(jnp.asarray(index_BT), real_BT=jnp.asarray(index_BT < ends_B[:, None]))
        hidden, cache = run(p, TOKENS[:, start:stop], where, cache)
        got[:, start:stop] = hidden
    for n in range(12):
        at_B = ends_B + n
        hidden, cache = run(
            p, TOKENS[np.arange(B), at_B][:, None], TokenPositions.at(jnp.asarray(at_B)[:, None]), cache
        )
        got[np.arange(B), at_B] = hidden[:, 0]
    for b in range(B):  # 3e-5: fp32 sums in another order, on values of magnitude about 3
        np.testing.assert_allclose(got[b, : ends_B[b] + 12], whole[b, : ends_B[b] + 12], atol=3e-5)


@every_attention
def test_the_future_has_no_influence(name, train):
    model, p, at = Llama(CFG, ALL[name], train=train), params(ALL[name]), 37
    distinct = jnp.broadcast_to(jnp.arange(T, dtype=jnp.int32), (1, T))  # each token once, so embeddings are positions

    def one_output(embed_VD):
        hidden, _ = model.apply({"params": p | {"embed_VD": embed_VD}}, distinct, TokenPositions.whole(1, T), T)
        return hidden[0, at].sum()

    influence_V = jnp.abs(jax.jit(jax.grad(one_output))(p["embed_VD"])).sum(-1)
    assert float(influence_V[at + 1 : T].max()) == 0.0
    assert float(influence_V[at]) > 0


@every_attention
def test_blockwise_is_dense(name, train):
    """Values and gradients, with tiles that do not divide the row."""
    p = params(ALL[name])

    def loss(p, softmax):
        model = Llama(CFG, ALL[name], train=train, backend=softmax)
        hidden, _ = model.apply({"params": p}, TOKENS, TokenPositions.whole(B, T), T)
        return (logits(p, hidden) ** 2).mean()

    both = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    (dense, d), (blockwise, b) = both(p, Dense()), both(p, Blockwise(24, 16))
    np.testing.assert_allclose(blockwise, dense, rtol=1e-6)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(d))
    # fp32 sums reordered; the released CLEX solver adds up rounding over hundreds of steps (3e-5 by its authors' code)
    rounding = 3e-5 if name == "clex_rk4_peer" else 3e-6
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=rounding * scale), b, d)


def three_steps(method, mesh, micro_rows=None):
    recipe = Recipe(learning_rate=1e-4, warmup=1, ema_decay=0.9, micro_batch_size=micro_rows)
    model = Llama(CFG, method, train=True, placement=sharding.MeshPlacement() if mesh else Llama.placement)
    rng = np.random.default_rng(1)
    tokens_BS = rng.integers(0, CFG.vocab, (4, T + 1)).astype(np.int32)
    batch = {
        "tokens_BT": tokens_BS[:, :-1], "targets_BT": tokens_BS[:, 1:],
        "index_BT": np.broadcast_to(np.arange(T, dtype=np.int32), (4, T)),
        "weights_BT": rng.uniform(size=(4, T)).astype(np.float32),
    }  # fmt: skip
    p = params(method)
    if mesh:
        p, batch = sharding.shard_params(p, mesh), sharding.place_batch(batch, mesh)
    state, numbers = init_train_state(model, recipe, p), []
    for _ in range(3):
        state, metrics = train_step(model, recipe, state, batch)
        numbers.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    return np.array(numbers), jax.tree.map(np.asarray, state.ema)


@every_program
def test_sharded_is_one_device(name):
    """Three Adam steps on fsdp 2 x seq 2 x model 2."""
    method = dataclasses.replace(ALL[name], trainable=lambda path: True)
    alone, ema = three_steps(method, None)
    mesh = sharding.make_mesh(fsdp=2, seq=2, model=2)
    with jax.set_mesh(mesh):
        spread, ema_spread = three_steps(method, mesh)
    np.testing.assert_allclose(spread[:, 0], alone[:, 0], rtol=1e-6)
    np.testing.assert_allclose(spread[:, 1], alone[:, 1], rtol=1e-5)  # a norm sums squares of many small numbers
    # Adam divides by the gradient's size, so where that is rounding noise a step may differ by the whole rate, 1e-4
    for path in ema:
        assert np.abs(ema_spread[path] - ema[path]).mean() < 1e-6, path


def test_weights_may_be_copied_as_well_as_split():
    """The same on data 2 x fsdp 2 x model 2, with fewer rows than devices, and with one row at a time over eight."""
    alone, _ = three_steps(ALL["pi"], None)
    mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
    with jax.set_mesh(mesh):
        spread, _ = three_steps(ALL["pi"], mesh)
    np.testing.assert_allclose(spread, alone, rtol=1e-5)
    for mesh, rows in ((sharding.make_mesh(data=2, seq=4), 2), (sharding.make_mesh(seq=8), 1)):
        with jax.set_mesh(mesh):
            spread, _ = three_steps(ALL["pi"], mesh, micro_rows=rows)
        np.testing.assert_allclose(spread, alone, rtol=1e-5)


@every_method
def test_array_names_tell_the_truth(name):
    model, p = Llama(CFG, ALL[name]), params(ALL[name])
    with checked("/longjax/"):
        model.apply({"params": p}, TOKENS, TokenPositions.whole(B, T), T, model.init_cache(B, T, T))
        dataclasses.replace(model, train=True).apply(
            {"params": p}, TOKENS, TokenPositions.whole(B, T), T, key=jax.random.key(0)
        )


@pytest.mark.parametrize("name", SMALL)
def test_equal_settings_compile_once(name):
    traces = []

    def traced(model, x):
        traces.append(model)
        return x

    once = jax.jit(traced, static_argnums=0)
    for _ in range(3):
        once(Llama(CFG, copy.deepcopy(SMALL[name])), 1)
    assert len(traces) == 1
