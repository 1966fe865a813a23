"""The decoding kernel, interpreted: the same numbers as the dense softmax, from the cache of all layers."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import sharding
from longjax.attention.core import Dense, TokenPositions
from longjax.attention.kernels import triton_decode
from longjax.attention.kernels.triton_decode import TritonDecode
from longjax.attention.rope import stack_ropes
from longjax.config import TINY
from longjax.inference.decode import DecodeState, StopRules, decode
from longjax.model.llama import Llama
from longjax.sharding.cache_parallel import InferencePlacement, init_sharded_cache
from small import SMALL

B, T = 2, 64
CFG = dataclasses.replace(TINY, vocab=96)
KERNEL = TritonDecode(block=8, interpret=True)
TOKENS = np.random.default_rng(0).integers(0, CFG.vocab, (B, T)).astype(np.int32)
NAMES = ["base", "lm_infinite", "self_extend", "dca", "rerope", "sliding_window", "lm_infinite_topk", "alibi"]


@partial(jax.jit, static_argnums=0)
def params(model):
    drawn = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32), TokenPositions.whole(1, 8), 8)["params"]
    return {name: x * 2 if name in ("q_DNH", "k_DKH") else x for name, x in drawn.items()}


@pytest.mark.parametrize(("name", "kv_heads"), [*((name, 2) for name in NAMES), ("self_extend", 4)])
def test_it_decodes_what_dense_decodes(name, kv_heads, monkeypatch):
    """Rows of different length, caches longer than the row and rings that have been overwritten."""
    monkeypatch.setattr(triton_decode, "MIN_DECODE_KEYS", 8)
    model = Llama(dataclasses.replace(CFG, kv_heads=kv_heads), SMALL[name])
    p = params(model)
    same(*steps(model, p, (KERNEL, Dense())))


def same(got, want):
    np.testing.assert_allclose(np.stack(got), np.stack(want), atol=1e-5)  # fp32 sums reordered, of values of about 3


@partial(jax.jit, static_argnums=0)
def run(model, p, tokens_BT, positions, cache):
    return model.apply({"params": p}, tokens_BT, positions, T, cache)


def steps(model, p, backends, mesh=None):
    """For each back end, the hidden states of three tokens after prompts of 40 and 21."""
    ends_B, index_BT = np.array([40, 21]), np.broadcast_to(np.arange(40, dtype=np.int32), (B, 40))
    positions = TokenPositions.at(jnp.asarray(index_BT), real_BT=jnp.asarray(index_BT < ends_B[:, None]))
    _, prompt = run(model, p, TOKENS[:, :40], positions, init_sharded_cache(model, B, T, T, mesh))
    for backend in backends:
        cache, hiddens = prompt, []
        for n in range(3):
            positions = TokenPositions.at(jnp.asarray(ends_B + n)[:, None])
            token_B1 = TOKENS[np.arange(B), ends_B + n][:, None]
            hidden, cache = run(dataclasses.replace(model, backend=backend), p, token_B1, positions, cache)
            hiddens.append(np.asarray(hidden))
        yield hiddens


def test_devices_share_a_row(monkeypatch):
    """Each reads its piece of the cache that retains all tokens; one of them the ring, which all have."""
    monkeypatch.setattr(triton_decode, "MIN_DECODE_KEYS", 8)
    model, mesh = Llama(CFG, SMALL["self_extend"]), sharding.make_mesh(data=2, seq=2, model=2)
    p = params(model)
    (want,), spread = steps(model, p, [Dense()]), dataclasses.replace(model, placement=InferencePlacement())
    with jax.set_mesh(mesh):
        for got in steps(spread, sharding.shard_params(p, mesh), (KERNEL, Dense()), mesh):
            same(got, want)


def compiled_decode(method, layers, size):
    """The program that decodes one row, and the bytes of its cache."""
    model = Llama(dataclasses.replace(CFG, layers=layers), method)
    p = jax.eval_shape(lambda: params(model))
    rope = stack_ropes([jax.tree.map(np.asarray, model.method.rope(model.cfg, size, {}, None))])
    cache = jax.eval_shape(lambda: model.init_cache(1, size, size))
    none, ids = jnp.zeros(1, jnp.int32), jnp.zeros((1, size), jnp.int32)
    rows = DecodeState(cache, ids, none, none, none, jnp.zeros(1))
    rules = StopRules(none, jnp.int32(0), none[None], none, none)
    traced = decode.trace(model, size, p, rope, rows, rules, jnp.int32(size))
    return traced.lower().compile(), sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))


@pytest.mark.parametrize("name", ["base", "self_extend", "dca", "landmark", "lm_infinite_topk"])
def test_no_token_copies_the_cache(name):
    """It is written in place, and once. On a CPU, what a layer attends to may be copied; there are eight layers."""
    program, cache = compiled_decode(SMALL[name], layers=8, size=2048)
    sizes = program.memory_analysis()
    assert sizes is not None
    assert sizes.alias_size_in_bytes > cache
    assert sizes.temp_size_in_bytes < cache / 4
