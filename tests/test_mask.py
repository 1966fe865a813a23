"""A user's own mask: any function of the two indices narrows a branch, on every back end there is."""

import dataclasses

import jax
import numpy as np
import pytest

from longjax.attention.blockwise import Blockwise
from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch
from longjax.attention.core import Dense, TokenPositions
from longjax.methods import Method
from longjax.model.llama import Llama
from test_laws import CFG, TOKENS, B, T, params


@dataclasses.dataclass(frozen=True)
class SameParity:
    """Every second key, and the query itself."""

    def __call__(self, i, j):
        return (i - j) % 2 == 0


@dataclasses.dataclass(frozen=True)
class Dilated:
    def __call__(self, cfg, length):
        return BranchedAttention((Branch(mask=SameParity()),))


METHOD = Method(attention=Dilated())


def hidden(backend, tokens=TOKENS):
    model = Llama(CFG, METHOD, backend=backend)
    run = jax.jit(lambda p, x: model.apply({"params": p}, x, TokenPositions.whole(*x.shape), T)[0])
    return np.asarray(run(params(METHOD), tokens))


@pytest.mark.parametrize("backend", [Dense(), Blockwise(24, 16)])
def test_what_is_masked_has_no_influence(backend):
    before = hidden(backend)
    changed = TOKENS.copy()
    changed[:, 20] = (changed[:, 20] + 1) % CFG.vocab
    moved = np.abs(hidden(backend, changed) - before).max(axis=(0, 2)) > 1e-6
    assert not moved[:20].any()
    assert not moved[21::2].any()  # odd indices never see an even one
    assert moved[20]
    assert moved[22::2].mean() > 0.9


def test_all_back_ends_agree():
    np.testing.assert_allclose(hidden(Blockwise(24, 16)), hidden(Dense()), atol=1e-5)


def test_the_mask_holds_with_a_cache():
    model, p = Llama(CFG, METHOD), params(METHOD)
    run = jax.jit(lambda p, x, positions, cache: model.apply({"params": p}, x, positions, T, cache))
    cache, got = model.init_cache(B, T, T), []
    for start, stop in ((0, 41), (41, T)):
        index_BT = np.broadcast_to(np.arange(start, stop), (B, stop - start))
        out, cache = run(p, TOKENS[:, start:stop], TokenPositions.at(jax.numpy.asarray(index_BT)), cache)
        got.append(out)
    np.testing.assert_allclose(np.concatenate(got, axis=1), hidden(Dense()), atol=3e-5)
