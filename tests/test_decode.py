"""The kernel of decoding, interpreted: the same numbers as the dense softmax, from the cache of all layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention import Dense, Tokens
from longjax.config import TINY
from longjax.generate import Rows, Rules, go_on
from longjax.kernels import triton_decode
from longjax.kernels.triton_decode import Decode
from longjax.llama import Llama
from longjax.rope import of_rows
from small import SMALL

B, T = 2, 64
CFG = dataclasses.replace(TINY, vocab=96)
TOKENS = np.random.default_rng(0).integers(0, CFG.vocab, (B, T)).astype(np.int32)
NAMES = ["base", "lm_infinite", "self_extend", "dca", "rerope", "sliding_window", "lm_infinite_topk", "alibi"]


def params(model):
    made = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32), Tokens.whole(1, 8), 8)["params"]
    return {name: x * 2 if name in ("q_DNH", "k_DKH") else x for name, x in made.items()}


@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_it_decodes_what_dense_decodes(name, kv_heads, monkeypatch):
    """Rows of different length, stores that are longer than the row and stores that have begun anew."""
    monkeypatch.setattr(triton_decode, "NARROW", 8)
    model = Llama(dataclasses.replace(CFG, kv_heads=kv_heads), SMALL[name])
    p = params(model)

    def run(softmax, tokens_BT, where, memory):
        return dataclasses.replace(model, softmax=softmax).apply({"params": p}, tokens_BT, where, T, memory)

    run = jax.jit(run, static_argnums=0)
    ends_B = np.array([40, 21])
    where = Tokens.whole(B, 40, jnp.asarray(np.arange(40) < ends_B[:, None]))
    _, memory = run(Dense(), TOKENS[:, :40], where, model.empty_memory(B, T, T))
    for n in range(3):
        token_B1 = TOKENS[np.arange(B), ends_B + n][:, None]
        where = Tokens.at(jnp.asarray(ends_B + n)[:, None])
        want, _ = run(Dense(), token_B1, where, memory)
        got, memory = run(Decode(block=8, interpret=True), token_B1, where, memory)
        np.testing.assert_allclose(got, want, atol=1e-5)  # fp32 sums in another order, on values of magnitude 3


def go_on_compiled(method, layers, size):
    """-> the program that goes on with one row, and the bytes of its cache."""
    model = Llama(dataclasses.replace(CFG, layers=layers), method)
    p = jax.eval_shape(lambda: params(model))
    rope = of_rows([jax.tree.map(np.asarray, model.method.rope(model.cfg, size, {}, None))])
    memory = jax.eval_shape(lambda: model.empty_memory(1, size, size))
    none, ids = jnp.zeros(1, jnp.int32), jnp.zeros((1, size), jnp.int32)
    rows = Rows(memory, ids, none, none, none, jnp.zeros(1))
    rules = Rules(jnp.int32(0), jnp.int32(0), none[None], none, none)
    traced = go_on.trace(model, size, p, rope, rows, rules, jnp.int32(size))
    return traced.lower().compile(), sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(memory))


@pytest.mark.parametrize("name", ["base", "self_extend", "dca", "landmark", "lm_infinite_topk"])
def test_no_token_copies_the_cache(name):
    """It is written where it lies, and once. On a CPU, what a layer looks at may be copied; there are eight layers."""
    program, cache = go_on_compiled(SMALL[name], layers=8, size=2048)
    sizes = program.memory_analysis()
    assert sizes.alias_size_in_bytes > cache
    assert sizes.temp_size_in_bytes < cache / 4
