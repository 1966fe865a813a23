"""The Triton kernels, interpreted: values and gradients are those of Dense, whatever the intervals are."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch
from longjax.attention.core import AttentionMetadata, BranchInputs, Dense, TokenPositions
from longjax.attention.intervals import SlidingWindow
from longjax.attention.kernels.triton import Triton, unsupported_reason
from longjax.attention.kernels.triton_tiles import PaddedInputs, Tile, live_tile_pairs, pad_inputs, tile_ranges
from longjax.config import ModelConfig
from longjax.methods import METHODS
from longjax.methods.method import plain_rope
from shape_names import checked

CFG = ModelConfig(dim=96, heads=4, kv_heads=2, trained_len=64, dtype="float32")  # heads of width 24: padded to 32
B, T = 2, 88  # no tile divides it
SMALL = Triton(Tile(32, 16), Tile(16, 32), Tile(32, 32), interpret=True)


@dataclasses.dataclass(frozen=True)
class Checkered:
    def __call__(self, i, j):
        return (i // 8 + j // 8) % 3 != 1


ATTENTIONS = {
    "causal": BranchedAttention(),
    "self_extend": METHODS["self_extend"](16, 4).attention(CFG, T),
    "lm_infinite": METHODS["lm_infinite"](window=24, first=4).attention(CFG, T),
    "s2_wrap": METHODS["longlora"](4.0, shift="s2_wrap").attention_train(CFG, T),  # intervals that differ between heads
    "masked": BranchedAttention((Branch(SlidingWindow(40), mask=Checkered()),)),
}
POSITIONS = {
    "whole": TokenPositions.whole(B, T),
    "packed": TokenPositions.at(
        jnp.broadcast_to(jnp.arange(T, dtype=jnp.int32), (B, T)),
        start_BT=jnp.asarray(np.repeat([[0, 33, 41], [0, 7, 80]], [33, 8, 47], axis=1)),
        real_BT=jnp.broadcast_to(jnp.arange(T) < 85, (B, T)),
    ),
}


def draw(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def metadata(positions, backend, slopes_N=None):
    rope = plain_rope(CFG, T, {}, None).replace(slopes_N=slopes_N)
    return AttentionMetadata(positions, positions, rope, np.arange(CFG.heads, dtype=np.int32), backend=backend)


def same(found, wanted, rounding=2e-6):
    """`rounding`: float32 sums in another order, of values of the size of the largest."""
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, atol=rounding * float(jnp.abs(y).max()))


def out_and_gradients(run):
    q, kv = (B, T, CFG.heads, CFG.head_dim), (B, T, CFG.kv_heads, CFG.head_dim)
    *qkv, d_out = draw(q, kv, kv, q)

    def both(backend):
        out, back = jax.vjp(lambda *qkv: run(backend, *qkv), *qkv)
        return out, back(d_out)

    return jax.jit(both, static_argnums=0)


CASES = [
    ("causal", "packed"),
    ("self_extend", "packed"),
    ("s2_wrap", "whole"),
    ("masked", "packed"),
]


@pytest.mark.parametrize(("name", "positions"), CASES)
def test_is_dense(name, positions):
    run = out_and_gradients(lambda backend, *qkv: ATTENTIONS[name](*qkv, metadata(POSITIONS[positions], backend))[0])
    same(run(SMALL), run(Dense()))


def test_slopes():
    slopes_N = jnp.linspace(0.1, 0.8, CFG.heads, dtype=jnp.float32)
    run = out_and_gradients(
        lambda backend, *qkv: BranchedAttention()(*qkv, metadata(POSITIONS["packed"], backend, slopes_N))[0]
    )
    same(run(SMALL), run(Dense()))


def test_chunks_against_a_cache():
    """Empty slots, and a ring whose slots are not in order."""
    attention = ATTENTIONS["lm_infinite"]
    q, k, v = draw((1, T, CFG.heads, CFG.head_dim), *[(1, T, CFG.kv_heads, CFG.head_dim)] * 2)

    @jax.jit
    def chunk(q, k, v, index_BT, cache):
        positions = TokenPositions.at(index_BT)
        outs = [attention(q, k, v, metadata(positions, backend), cache) for backend in (SMALL, Dense())]
        return outs[0][0], outs[1]

    cache = attention.init_cache(CFG, 1, 100)
    for start, stop in ((0, 44), (44, 88)):
        index_BT = jnp.arange(start, stop, dtype=jnp.int32)[None]
        found, (wanted, cache) = chunk(*(x[:, start:stop] for x in (q, k, v)), index_BT, cache)
        same(found, wanted)


def test_rows_that_see_nothing_are_zero_and_have_no_gradient():
    empty = BranchedAttention(
        (Branch(METHODS["self_extend"](16, 4).attention(CFG, T).branches[1].interval),)
    )  # far tokens alone
    run = out_and_gradients(lambda backend, *qkv: empty(*qkv, metadata(POSITIONS["whole"], backend))[0])
    out, (dq, dk, dv) = run(SMALL)
    assert not np.any(out[:, :16]), "the first 16 queries see no key"
    assert not np.any(dq[:, :16])
    same((out, (dq, dk, dv)), run(Dense()))


def branch_of(lo_T, hi_T, index_S, width=16):
    lo, hi, index = (jnp.asarray(x, jnp.int32) for x in (lo_T, hi_T, index_S))
    q, k = (jnp.zeros((1, n, 1, width), jnp.float32) for n in (len(lo_T), len(index_S)))
    t, s = jnp.zeros((1, len(lo_T)), jnp.int32), index[None]
    return BranchInputs(
        q, k, k, lo[None, :, None], hi[None, :, None], t, s, t.astype(jnp.float32), s.astype(jnp.float32)
    )


def visited(branch, tile):
    padded: PaddedInputs = pad_inputs(branch, tile)
    return np.asarray(tile_ranges(*live_tile_pairs(padded, tile, branch.mask)))[0, 0]


def test_only_tiles_that_matter_are_visited():
    """A window of 32 in tiles of 16: three tiles of keys a tile of queries, the middle one whole."""
    i = np.arange(128)
    found = visited(branch_of(np.maximum(i - 31, 0), i + 1, i), Tile(16, 16))
    wanted = [[max(q - 2, 0), 0 if q < 1 else max(q - 1, 0), q, q + 1] for q in range(8)]
    np.testing.assert_array_equal(found[2:], wanted[2:])
    np.testing.assert_array_equal(found[0], [0, 1, 1, 1])  # nothing is whole: all is masked
    np.testing.assert_array_equal(found[1], [0, 0, 1, 2])
    second_document = visited(branch_of(np.where(i < 64, 0, 64), i + 1, i), Tile(16, 16))
    np.testing.assert_array_equal(second_document[4:, 0], [4, 4, 4, 4])
    nothing = visited(branch_of(i * 0, i * 0, i), Tile(16, 16))
    np.testing.assert_array_equal(nothing[:, 0], nothing[:, 3])


def test_bfloat16_is_dense_within_its_rounding():
    *qkv, d_out = draw((1, 128, 4, 64), (1, 128, 2, 64), (1, 128, 2, 64), (1, 128, 4, 64), dtype=jnp.bfloat16)
    i = np.arange(128)
    branch = branch_of(np.maximum(i - 50, 0), i + 1, i)

    @partial(jax.jit, static_argnums=0)
    def both(backend, *qkv):
        out, back = jax.vjp(lambda q, k, v: backend((branch.replace(q_BTNH=q, k_BSKH=k, v_BSKH=v),)), *qkv)
        return [x.astype(jnp.float32) for x in (out, *back(d_out.astype(out.dtype)))]

    found, wanted = both(SMALL, *qkv), both(Dense(), *(x.astype(jnp.float32) for x in qkv))
    for x, y in zip(found, wanted, strict=True):  # rounded to 8 bits: half a unit is 2e-3 of a value
        assert float(jnp.linalg.norm(x - y) / jnp.linalg.norm(y)) < 4e-3


def test_array_names_are_their_shapes():
    with checked("/longjax/attention/kernels/triton") as seen:
        jax.eval_shape(
            out_and_gradients(
                lambda backend, *qkv: ATTENTIONS["self_extend"](*qkv, metadata(POSITIONS["packed"], backend))[0]
            ),
            SMALL,
        )
    assert {"out_kernel", "query_gradient_kernel", "forward_branch"} <= {function for function, _ in seen}


def test_a_cpu_is_unsupported_for_a_reason():
    assert "NVIDIA" in (unsupported_reason() or "")


@pytest.mark.parametrize("width", [64, 80, 128])
def test_lowers_for_cuda_without_a_gpu(width):
    """Triton supports less than the interpreter: sizes that are powers of two, no gathers."""
    i = np.arange(300)
    branch = branch_of(np.maximum(i - 50, 0), i + 1, i, width)
    branch = branch.replace(
        **{name: getattr(branch, name).astype(jnp.bfloat16) for name in ("q_BTNH", "k_BSKH", "v_BSKH")}
    )
    branch = branch.replace(mask=Checkered(), slopes_N=jnp.ones(1, jnp.float32))
    device = jax.sharding.AbstractDevice("NVIDIA H200", 132, "gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("x",), (jax.sharding.AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        gradient = jax.jit(jax.grad(lambda q: Triton()((branch.replace(q_BTNH=q),)).astype(jnp.float32).sum()))
        text = gradient.trace(branch.q_BTNH).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == 3
