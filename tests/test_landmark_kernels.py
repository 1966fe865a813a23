"""Landmark's kernels, interpreted: the same blocks and values as by copies, whatever the rows and calls are."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.backends import default_backend
from longjax.attention.blockwise import Blockwise
from longjax.attention.core import AttentionMetadata, Dense, TokenPositions
from longjax.attention.fused import Fused
from longjax.attention.kernels.cudnn import Cudnn
from longjax.attention.kernels.triton import Triton
from longjax.attention.kernels.triton_decode import TritonDecode
from longjax.attention.kernels.triton_landmark import TritonLandmark
from longjax.attention.kv_cache import with_layer
from longjax.attention.landmark import block_kernels
from longjax.attention.landmark.block_kernels import KernelBlocks, block_attention_for
from longjax.attention.landmark.blocks import Blocks, ChunkQueries, GatheredBlocks
from longjax.attention.landmark.memory import LandmarkMemory, PerChunk
from longjax.config import ModelConfig
from longjax.methods.method import plain_rope
from shape_names import checked

B, T, H, BLOCK = 2, 150, 16, 16  # nine blocks and a tail
KERNEL = Triton(interpret=True)
ROUNDING = 1e-5  # float32 sums of values of order 1, in another order


def metadata(positions: TokenPositions, backend, heads: int) -> AttentionMetadata:
    cfg = ModelConfig(dim=heads * H, heads=heads, kv_heads=heads, trained_len=64)
    return AttentionMetadata(
        positions, positions, plain_rope(cfg, T, {}, None), np.arange(heads, dtype=np.int32), backend=backend
    )


def qkv(heads: int, kv_heads: int, seed: int = 0, dtype=np.float32) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(1.5 * rng.normal(size=(B, T, n, H)), dtype) for n in (heads, kv_heads, kv_heads))


@functools.partial(jax.jit, static_argnames=("attention", "backend"))
def run(attention, backend, x, positions, cache=None):
    return attention(*x, metadata(positions, backend, x[0].shape[2]), cache)


def documents() -> TokenPositions:
    """Documents that begin in a block, at a landmark, and behind one; the second row ends in padding."""
    starts = np.zeros((B, T), np.int32)
    starts[0, [31, 95, 100]], starts[1, [48, 49]] = (31, 95, 100), (48, 49)
    index_BT = np.broadcast_to(np.arange(T, dtype=np.int32), (B, T))
    real_BT = index_BT < np.array([[T], [140]])
    return TokenPositions.at(index_BT, jnp.asarray(np.maximum.accumulate(starts, axis=1)), jnp.asarray(real_BT))


POSITIONS = {"whole": TokenPositions.whole(B, T), "documents": documents()}


@pytest.mark.parametrize(
    ("memory", "heads", "kv_heads", "positions"),
    [
        (LandmarkMemory(BLOCK, 3), 4, 2, "whole"),
        (LandmarkMemory(BLOCK, 3, chunk=2), 4, 1, "documents"),
        (LandmarkMemory(BLOCK, 1, chunk=None), 2, 2, "documents"),
        (LandmarkMemory(BLOCK, 2, PerChunk(), chunk=2), 2, 1, "whole"),
        (LandmarkMemory(BLOCK, 20), 2, 2, "documents"),  # more than there are
    ],
)
def test_is_what_copies_are(memory, heads, kv_heads, positions):
    x = qkv(heads, kv_heads)
    (found, _), (wanted, _) = (run(memory, backend, x, POSITIONS[positions]) for backend in (KERNEL, Dense()))
    real_BT = POSITIONS[positions].real_BT
    np.testing.assert_allclose(found[real_BT], wanted[real_BT], atol=ROUNDING)


def test_calls_read_their_layer_of_the_cache():
    """Three calls, of which the second ends in padding and the last is a token, in the second of three layers."""
    attention, x = LandmarkMemory(BLOCK, 2), qkv(4, 2)
    cfg = ModelConfig(dim=4 * H, heads=4, kv_heads=2, dtype="float32")
    layer = attention.init_cache(cfg, B, T)
    cache = with_layer(jax.tree.map(lambda y: jnp.broadcast_to(y, (3, *y.shape)), layer), jnp.int32(1))
    length_B1 = np.array([[140], [121]])
    for a, b in itertools.pairwise([0, 40, 140]):
        index_BT = np.broadcast_to(np.arange(a, b, dtype=np.int32), (B, b - a))
        positions = TokenPositions.at(index_BT, real_BT=jnp.asarray(index_BT < length_B1))
        cache = same_calls(attention, tuple(y[:, a:b] for y in x), positions, cache)
    last = tuple(y[np.arange(B), length_B1[:, 0]][:, None] for y in x)
    same_calls(attention, last, TokenPositions.at(jnp.asarray(length_B1)), cache)


def same_calls(attention, x, positions, cache):
    (found, _), (wanted, cache) = (run(attention, backend, x, positions, cache) for backend in (KERNEL, Dense()))
    np.testing.assert_allclose(found[positions.real_BT], wanted[positions.real_BT], atol=ROUNDING)
    return cache


def blocks_and_queries(x, positions, past_B1):
    """Queries, and blocks of keys that are not rotated."""
    memory = LandmarkMemory(BLOCK, 1)
    cache = memory.new_cache(x[1]).write(x[1], x[2], positions)
    return ChunkQueries(x[0], positions, jnp.broadcast_to(past_B1, positions.index_BT.shape)), Blocks.of(cache, BLOCK)


@pytest.mark.parametrize("top_k", [1, 4])
def test_equal_scores_choose_the_earliest(top_k):
    """Landmarks of far blocks that are all alike, as in a model's first layer; blocks in tiles of three."""
    q, k, v = qkv(2, 1)
    alike = k.at[:, BLOCK - 1 :: BLOCK].set(k[:, :1])
    queries, blocks = blocks_and_queries((q, alike, v), POSITIONS["whole"], POSITIONS["whole"].index_BT // BLOCK)
    rope = plain_rope(ModelConfig(dim=2 * H, heads=2, kv_heads=1), T, {}, None)
    found = jax.jit(lambda *x: KernelBlocks(TritonLandmark(block_x=16, interpret=True)).choose(*x, top_k))(
        queries, blocks, rope
    )
    wanted = jax.jit(lambda *x: GatheredBlocks().choose(*x, top_k))(queries, blocks, rope)
    np.testing.assert_array_equal(found, wanted)
    far = 9 - top_k  # of the last query
    assert top_k == 1 or len(np.intersect1d(wanted[:, -1], np.arange(far))) > 1, "several far ones are chosen"


def test_gradients_are_those_of_copies():
    x, memory = qkv(2, 1), LandmarkMemory(BLOCK, 2)

    def slope(backend):
        return jax.grad(lambda x: jnp.sum(run(memory, backend, x, POSITIONS["documents"])[0][0] ** 2))(x)

    for found, wanted in zip(slope(KERNEL), slope(Dense()), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)  # sums over up to 150 queries


def test_few_queries_at_a_time_are_the_same(monkeypatch):
    x, memory = qkv(2, 1), LandmarkMemory(BLOCK, 2)
    wanted, _ = run(memory, KERNEL, x, POSITIONS["documents"])
    monkeypatch.setattr(block_kernels, "MAX_QUERY_BYTES", 60_000)
    found, _ = jax.jit(lambda x: memory(*x, metadata(POSITIONS["documents"], KERNEL, 2)))(x)
    np.testing.assert_allclose(found, wanted, atol=ROUNDING)


def test_bfloat16_is_the_same_within_its_rounding():
    x, memory = qkv(2, 2, dtype=jnp.bfloat16), LandmarkMemory(BLOCK, 2)
    (found, _), (wanted, _) = (run(memory, backend, x, POSITIONS["whole"]) for backend in (KERNEL, Dense()))
    assert found.dtype == jnp.bfloat16
    error = jnp.linalg.norm((found - wanted).astype(jnp.float32)) / jnp.linalg.norm(wanted.astype(jnp.float32))
    assert error < 4e-3  # weights and values are each rounded to 8 bits, half a unit is 2e-3


def test_array_names_are_their_shapes():
    with checked("/longjax/") as seen:
        jax.eval_shape(
            lambda x: LandmarkMemory(BLOCK, 3)(*x, metadata(POSITIONS["documents"], KERNEL, 4))[0],
            qkv(4, 2, dtype=np.float32),
        )
    assert {"choose_kernel", "attend_kernel", "kernel_attention", "blocks_to_visit"} <= {
        function for function, _ in seen
    }


def test_kernels_go_with_their_backend(monkeypatch):
    logged = []
    monkeypatch.setattr(block_kernels, "log_once", lambda reason, fallback: logged.append(reason))
    q_BTNH = qkv(2, 2)[0]
    for backend in (Dense(), Blockwise(), TritonDecode(), Fused(Cudnn()), default_backend()):
        assert block_attention_for(backend, q_BTNH, BLOCK) == GatheredBlocks()
    for backend in (KERNEL, Fused(Cudnn(), KERNEL)):
        assert block_attention_for(backend, q_BTNH, BLOCK) == KernelBlocks(TritonLandmark(interpret=True))
    assert not logged
    assert block_attention_for(KERNEL, q_BTNH[..., :12], BLOCK) == GatheredBlocks()
    assert block_attention_for(KERNEL, q_BTNH, 24) == GatheredBlocks()
    assert logged == ["Landmark's heads of width 12", "Landmark's blocks of 24 tokens"]


@pytest.mark.parametrize(("width", "block", "dtype"), [(128, 64, "bfloat16"), (64, 16, "float32")])
def test_lowers_for_cuda_without_a_gpu(width, block, dtype):
    """Triton supports less than the interpreter."""
    x = [jax.ShapeDtypeStruct((1, 300, n, width), dtype) for n in (4, 2, 2)]
    cfg, positions = ModelConfig(dim=4 * width, heads=4, kv_heads=2), TokenPositions.whole(1, 300)
    call = AttentionMetadata(
        positions, positions, plain_rope(cfg, 300, {}, None), np.arange(4, dtype=np.int32), backend=Triton()
    )
    device = jax.sharding.AbstractDevice("NVIDIA H200", 132, "gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("x",), (jax.sharding.AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(lambda *x: LandmarkMemory(block, 5)(*x, call)[0]).trace(*x)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == 2
