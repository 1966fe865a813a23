"""Golden checks of attention alone, outside a model."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.approx_case import Case, Computed
from golden_checks.approx_methods import method_of, self_extend_of, trained_len
from longjax.attention.blockwise import Blockwise
from longjax.attention.core import Attention, AttentionBackend, AttentionMetadata, Dense, TokenPositions
from longjax.attention.rope import Rope
from longjax.config import ModelConfig
from longjax.methods.longlora import longlora
from longjax.methods.method import Method
from longjax.methods.pi import pi
from longjax.methods.sliding_window import sliding_window

DENSE, TILES = Dense(), Blockwise(block_t=16, block_s=8)


# Attention alone


def config(case: Case) -> ModelConfig:
    _, heads, length, width = case.arrays["q"].shape
    meta = case.meta
    rotary = meta.get("rotary_dim", meta.get("partial_rotary_factor", 1.0) * width) / width
    return ModelConfig(
        dim=heads * width, heads=heads, kv_heads=case.arrays["k"].shape[1], head_width=width, rotary_fraction=rotary,
        rope_base=meta.get("rope_theta", 10_000.0), trained_len=trained_len(meta, length), dtype="float32",
    )  # fmt: skip


class Setting(NamedTuple):
    """One case's inputs, in longjax's axes."""

    cfg: ModelConfig
    qkv: tuple[np.ndarray, ...]  # on the host: slicing there compiles nothing
    index_BT: np.ndarray  # -1 for padding: it sees nothing and is not seen
    rope: Callable[[int], Rope]  # of the length so far

    @property
    def length(self) -> int:
        return self.index_BT.shape[1]


def setting(case: Case, method: Method) -> Setting:
    cfg = config(case)
    qkv = tuple(np.moveaxis(case.arrays[name], 1, 2) for name in "qkv")
    index = np.broadcast_to(np.arange(qkv[0].shape[1], dtype=np.int32), qkv[0].shape[:2])
    if "attention_mask" in case.arrays:
        index = np.where(case.arrays["attention_mask"], index, -1)

    def rope(length: int) -> Rope:
        if "slopes" in case.meta:
            return Rope(jnp.zeros(0, jnp.float32), slopes_N=jnp.asarray(case.meta["slopes"], jnp.float32))
        return method.rope(cfg, length, {}, None)

    return Setting(cfg, qkv, index, rope)


@functools.partial(jax.jit, static_argnames=("attend", "softmax"))
def attend(attend: Attention, softmax: AttentionBackend, qkv, index_BT, rope: Rope, cache=None):
    where = TokenPositions.at(index_BT, real_BT=index_BT >= 0)
    q_BTNH, k_BTKH, v_BTKH = qkv
    metadata = AttentionMetadata(where, where, rope, jnp.arange(q_BTNH.shape[2]), backend=softmax)
    return attend(q_BTNH, k_BTKH, v_BTKH, metadata, cache)


def whole(s: Setting, seen_by: Attention, softmax: AttentionBackend = DENSE, length: int | None = None) -> jax.Array:
    """Return out_BTNH of one pass over the first `length` tokens."""
    length = length or s.length
    return attend(seen_by, softmax, tuple(x[:, :length] for x in s.qkv), s.index_BT[:, :length], s.rope(length))[0]


def pieces(s: Setting, seen_by: Callable[[int], Attention], cuts: list[int]) -> np.ndarray:
    """Return out_BTNH, computed token by token or in chunks through the cache; `seen_by` may differ between them."""
    cache = seen_by(0).init_cache(s.cfg, s.index_BT.shape[0], s.length)
    outs = []
    for number, (a, b) in enumerate(itertools.pairwise(cuts)):
        qkv = tuple(x[:, a:b] for x in s.qkv)
        out, cache = attend(seen_by(number), DENSE, qkv, s.index_BT[:, a:b], s.rope(b), cache)
        outs.append(np.asarray(out))
    return np.concatenate(outs, axis=1)


def three_ways(name: str, s: Setting, seen_by: Attention) -> Computed:
    """Compute the same numbers in one pass, in tiles, and in three chunks through the cache."""
    step = -(-s.length // 3)
    yield name, "dense", whole(s, seen_by)
    yield name, "blockwise", whole(s, seen_by, TILES)
    if s.rope(1).scale == s.rope(s.length).scale:  # else the peer's keys change with the length
        yield name, "chunks", pieces(s, lambda _: seen_by, [*range(0, s.length, step), s.length])


def attention(case: Case) -> Computed:
    length = case.arrays["q"].shape[2]
    method = method_of(case.meta, length)
    s = setting(case, method)
    if case.meta["method"] == "s2_attn":
        yield from shifted_groups(case, s, method)
    elif case.meta["method"].startswith("self_extend"):
        yield from self_extend_outs(case, s, method)
    elif "prefill" in case.meta:
        yield from decode("", case, s, *(2 * [method.attention(s.cfg, length)]))
    elif "chunk_bounds" in case.meta:
        seen_by = method.attention(s.cfg, length)
        yield "out_whole", "dense", whole(s, seen_by)
        yield "out_chunked", "chunks", pieces(s, lambda _: seen_by, case.meta["chunk_bounds"])
    else:
        yield from three_ways("out", s, method.attention(s.cfg, length))
    if "out_hf_flash" in case.arrays:
        yield from three_ways("out_hf_flash", s, sliding_window(case.meta["window"] + 1).attention(s.cfg, length))


def decode(suffix: str, case: Case, s: Setting, prefill: Attention, step: Attention) -> Computed:
    """Compute a prompt in one pass, then one token at a time."""
    prompt = case.meta["prefill"]
    out = pieces(s, lambda number: step if number else prefill, [0, *range(prompt, s.length + 1)])
    yield f"out_prefill{suffix}", "cache", out[:, :prompt]
    yield f"out_prefill{suffix}", "dense", whole(s, prefill, length=prompt)
    yield f"out_decode{suffix}", "cache", out[:, prompt:]
    yield from three_ways(f"out_full{suffix}", s, prefill)


def self_extend_outs(case: Case, s: Setting, method: Method) -> Computed:
    """The released eager code divides exactly; the released flash code exactly in a prompt, with floor after it."""
    floored, truly = (m.attention(s.cfg, s.length) for m in (method, self_extend_of(case.meta, "true_division")))
    if "prefill" in case.meta:
        yield from decode("_eager", case, s, truly, truly)
        yield from decode("_flash", case, s, truly, floored)
        return
    yield from three_ways("out", s, floored)
    for name in ("out_peer_eager", "out_peer_flash"):
        if name in case.arrays:
            yield from three_ways(name, s, truly)
    if "inv_freq" in case.arrays:
        yield "inv_freq", "yarn", s.rope(s.length).inv_freq_R


def shifted_groups(case: Case, s: Setting, method: Method) -> Computed:
    assert method.attention_train is not None
    yield from with_gradients("", case, s, method.attention_train(s.cfg, s.length))
    if "out_wrap" in case.arrays:
        rolled = longlora(groups=s.length // case.meta["group_size"], shift="s2_wrap").attention_train
        assert rolled is not None
        yield from with_gradients("_wrap", case, s, rolled(s.cfg, s.length))
    if "out_full" in case.arrays:
        yield from with_gradients("_full", case, s, pi().attention(s.cfg, s.length))


@functools.partial(jax.jit, static_argnames=("seen_by", "softmax"))
def gradients(seen_by: Attention, softmax: AttentionBackend, qkv, index_BT, rope: Rope, cotangent):
    return jax.vjp(lambda *x: attend(seen_by, softmax, x, index_BT, rope)[0], *qkv)[1](cotangent)


def with_gradients(suffix: str, case: Case, s: Setting, seen_by: Attention) -> Computed:
    yield f"out{suffix}", "dense", whole(s, seen_by)
    yield f"out{suffix}", "blockwise", whole(s, seen_by, TILES)
    softmaxes = {"dense": DENSE} if suffix else {"dense": DENSE, "blockwise": TILES}  # tiles: what is trained with
    for how, softmax in softmaxes.items():
        d_qkv = gradients(seen_by, softmax, s.qkv, s.index_BT, s.rope(s.length), case.arrays["cotangent"])
        for name, d in zip(("dq", "dk", "dv"), d_qkv, strict=True):
            yield f"{name}{suffix}", how, np.moveaxis(np.asarray(d), 1, 2)
