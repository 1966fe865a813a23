"""Stock kernels merged into one softmax, against the dense one: values and gradients, of every pattern of attention."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import sharding
from longjax.attention import fused
from longjax.attention.branched import BranchedAttention
from longjax.attention.core import AttentionMetadata, Dense, TokenPositions
from longjax.attention.fused import Fused
from longjax.attention.kernels.reference import Reference
from longjax.attention.kernels.splash import Splash
from longjax.config import ModelConfig
from longjax.methods import METHODS
from longjax.methods.method import plain_rope

CFG = ModelConfig(dim=64, heads=4, kv_heads=2, trained_len=64, dtype="float32")
B, T, H = 2, 192, 16


class Forbidden:
    """The fallback of a kernel that must support everything."""

    def __call__(self, branches):
        raise AssertionError("fell back")


PATTERNS = {
    "full": METHODS["pi"](),
    "window": METHODS["sliding_window"](48),
    "self_extend": METHODS["self_extend"](32, 8),
    "octaves": METHODS["self_extend_octaves"](24),
    "leaky_rerope": METHODS["leaky_rerope"](48, 4.0),
    "lm_infinite": METHODS["lm_infinite"](48, 10),
    "streaming_llm": METHODS["streaming_llm"](),
    "dca": METHODS["dca"](),
    "s2": METHODS["longlora"](),
    "s2_wrap": METHODS["longlora"](shift="s2_wrap"),
    "groups": METHODS["longlora_sft"](group=80),
}


def attention(name, length=T):
    method = PATTERNS[name]
    attention = (method.attention_train or method.attention)(CFG, length)
    assert isinstance(attention, BranchedAttention)
    return attention


def inputs(length=T, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = [(B, length, heads, H) for heads in (CFG.heads, CFG.kv_heads, CFG.kv_heads, CFG.heads)]
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def out_and_gradients(attend, backend, qkv, d_out, head_N=None, positions=None):
    positions = positions or TokenPositions.whole(B, qkv[0].shape[1])
    rope = plain_rope(CFG, positions.index_BT.shape[1], {}, None)
    head_N = np.arange(CFG.heads, dtype=np.int32) if head_N is None else head_N
    metadata = AttentionMetadata(positions, positions, rope, head_N, backend=backend)
    out, back = jax.vjp(lambda *qkv: attend(*qkv, metadata)[0], *qkv)
    return out, *back(d_out)


def close(found, wanted, rounding):
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y, atol=rounding * float(jnp.abs(y).max()))


def both(name, backend, length=T):
    *qkv, d_out = inputs(length)
    run = jax.jit(
        lambda backend, *args: out_and_gradients(attention(name, length), backend, args[:3], args[3]), static_argnums=0
    )
    return run(backend, *qkv, d_out), run(Dense(), *qkv, d_out)


@pytest.mark.parametrize("name", PATTERNS)
def test_merged_rectangles_are_dense(name, monkeypatch):
    """float32 sums in another order. Also where few keys are left to plain products, as they are."""
    monkeypatch.setattr(fused, "MIN_KERNEL_KEYS", 4)
    close(*both(name, Fused(Reference(), Forbidden())), 3e-6)


TILED = {  # patterns whose edges lie where tiles of 128 begin
    "full": METHODS["pi"](),
    "window": METHODS["sliding_window"](200),
    "self_extend": METHODS["self_extend"](128, 8),
    "octaves": METHODS["self_extend_octaves"](128),
    "dca": METHODS["dca"](192, 64),
    "s2": METHODS["longlora"](groups=2),
}


@pytest.mark.parametrize("name", TILED)
def test_splash_is_dense(name, monkeypatch):
    """The kernels of TPUs, interpreted."""
    monkeypatch.setitem(PATTERNS, name, TILED[name])
    close(*both(name, Fused(Splash(128, 128, interpret=True), Forbidden()), 512), 1e-5)


def test_devices_find_the_pattern_of_their_heads():
    """Which heads a device has is known in the run only: S2 shifts the second half of all heads."""
    *qkv, d_out = inputs()
    wanted = jax.jit(partial(out_and_gradients, attention("s2"), Dense()))(qkv, d_out)
    with jax.set_mesh(sharding.make_mesh(data=2, model=4)):
        heads, backend = jax.P(None, None, "model", None), Fused(Reference(), Forbidden())
        spread = jax.device_put((*(jnp.repeat(x, CFG.heads // x.shape[2], axis=2) for x in qkv), d_out))

        def piece(q, k, v, d_out, head_N):
            return out_and_gradients(attention("s2"), backend, (q, k, v), d_out, head_N)

        run = jax.shard_map(piece, in_specs=(heads,) * 4 + (jax.P("model"),), out_specs=(heads,) * 4, check_vma=False)
        head_N = jax.reshard(jnp.arange(CFG.heads), jax.P("model"))
        out, dq, dk, dv = jax.jit(run)(*jax.reshard(spread, heads), head_N)
    dk, dv = (np.asarray(x).reshape(B, T, CFG.kv_heads, -1, H).sum(3) for x in (dk, dv))
    close((np.asarray(out), np.asarray(dq), dk, dv), map(np.asarray, wanted), 3e-6)


def test_why_it_falls_back_is_logged(monkeypatch):
    *qkv, _ = inputs(96)
    logged = []
    monkeypatch.setattr(fused, "log_once", lambda reason, fallback: logged.append(reason))
    positions = TokenPositions.at(jnp.broadcast_to(jnp.arange(96), (B, 96)))
    metadata = AttentionMetadata(
        positions,
        positions,
        plain_rope(CFG, 96, {}, None),
        np.arange(4, dtype=np.int32),
        backend=Fused(Reference(), Dense()),
    )
    jax.jit(lambda *qkv: BranchedAttention()(*qkv, metadata))(*qkv)
    assert "known in the run only" in logged[0]


def test_splash_keeps_documents_apart():
    """Near and far branches alike; a pattern that counts from a document's start falls back."""
    attend, (*qkv, d_out) = TILED["self_extend"].attention(CFG, 512), inputs(512)
    starts_T = np.maximum.accumulate(np.where(np.isin(np.arange(512), (0, 130, 131, 400)), np.arange(512), 0))
    apart = TokenPositions.documents(jnp.broadcast_to(jnp.asarray(starts_T, jnp.int32), (B, 512)))

    @partial(jax.jit, static_argnums=(0, 1))
    def run(attend, backend, *args):
        return out_and_gradients(attend, backend, args[:3], args[3], positions=apart)

    dense, splash = run(attend, Dense(), *qkv, d_out), Fused(Splash(128, 128, interpret=True), Forbidden())
    for backend in (Fused(Reference(), Forbidden()), splash):
        close(run(attend, backend, *qkv, d_out), dense, 1e-5)
    with pytest.raises(AssertionError, match="fell back"):
        run(TILED["s2"].attention_train(CFG, 512), splash, *qkv, d_out)
