"""Golden check of Landmark attention, and of LM-Infinite with middle keys: one .npz file against longjax."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.approx_attention import gradients, pieces, setting, whole
from golden_checks.approx_case import Case, Computed, compare, failure
from golden_checks.common import Result
from golden_checks.landmark_models import generation, memory_of, replayed, separate_pieces, training_model
from longjax.attention.core import Dense
from longjax.attention.landmark.dense import landmark_weights
from longjax.attention.landmark.memory import LandmarkMemory
from longjax.methods.landmark import InsertLandmarks, landmark
from longjax.methods.lm_infinite_topk import lm_infinite_topk
from longjax.methods.method import Method


def results(path: Path) -> Iterator[Result]:
    case = Case.read(path)
    method, arrays, meta = case.meta["method"], case.arrays, case.meta
    if not method.startswith("landmark"):
        yield from compare(case, middle_keys(case), {"q", "k", "v"})
    elif "probs" in arrays:
        yield from compare(case, softmax(case), {"logits", "cotangent"})
    elif "cotangent" in arrays:
        yield from compare(case, training_attention(case), {"q", "k", "v", "cotangent"})
    elif "cuts" in meta:
        yield from compare(case, memory_attention(case), {"q", "k", "v"})
    elif "loss" in arrays:
        yield from compare(case, training_model(case), {"raw_ids"})
    elif "logits_prefill" in arrays:
        yield from replayed(case, generation(case), {"raw_ids"})
    elif "losses" in arrays:
        yield from replayed(case, separate_pieces(case), {"input_ids"})
    else:
        yield failure(path, f"unknown kind of {method}")


# Attention alone


def softmax(case: Case) -> Computed:
    x_BNTS, block = jnp.asarray(case.arrays["logits"]), case.meta["block"]
    B, _, T, _ = x_BNTS.shape
    index = np.arange(T)

    def probs(x_BNTS: jax.Array) -> jax.Array:
        seen = jnp.asarray(index[:, None] >= index)[None, None, None]
        index_BT = jnp.broadcast_to(jnp.asarray(index), (B, T))
        return landmark_weights(x_BNTS[:, :, None], seen, index_BT, block)[:, :, 0]

    value, pullback = jax.vjp(probs, x_BNTS)
    yield "probs", "grouped softmax", value
    yield "dlogits", "autodiff", pullback(jnp.asarray(case.arrays["cotangent"]))[0]
    is_mem, section = InsertLandmarks(block).is_inserted(index), index // block
    same_section = (section[:, None] == section) & (index[:, None] >= index) & ~is_mem
    yield "is_mem", "index", is_mem.astype(int)
    yield "is_mem_visible", "index", (is_mem & (section < section[:, None])).astype(int)
    yield "last_section", "index", same_section.astype(int)


def is_mem(case: Case) -> Computed:
    length = case.arrays["q"].shape[2]
    yield "is_mem", "index", InsertLandmarks(case.meta["block"]).is_inserted(np.arange(length)).astype(int)


def training_attention(case: Case) -> Computed:
    yield from is_mem(case)
    method = landmark(case.meta["block"])
    s = setting(case, method)
    assert method.attention_train is not None
    seen_by = method.attention_train(s.cfg, s.length)
    yield "out", "training", whole(s, seen_by)
    yield "out", "inference, one call", whole(s, LandmarkMemory(case.meta["block"], 1, chunk=None))
    opened = LandmarkMemory(case.meta["block"], max(s.length // case.meta["block"], 1))
    yield "out", "inference, all blocks opened", whole(s, opened)
    d_qkv = gradients(seen_by, Dense(), s.qkv, s.index_BT, s.rope(s.length), jnp.asarray(case.arrays["cotangent"]))
    for name, d in zip(("dq", "dk", "dv"), d_qkv, strict=True):
        yield name, "autodiff", np.moveaxis(np.asarray(d), 1, 2)


def memory_attention(case: Case) -> Computed:
    yield from is_mem(case)
    s = setting(case, Method())
    yield "out", "cuts", pieces(s, lambda _: memory_of(case.meta), case.meta["cuts"])


def middle_keys(case: Case) -> Computed:
    meta, prompt = case.meta, case.meta["prefill"]
    method = lm_infinite_topk(
        meta["local"], meta["n_global"], meta["clamp"], meta["top_k"], meta["insert_at"], from_layer=0
    )
    s = setting(case, method)
    seen_by = method.attention(s.cfg, s.length)
    out = pieces(s, lambda _: seen_by, [0, *range(prompt, s.length + 1)])
    yield "out_prefill", "cache", out[:, :prompt]
    yield "out_prefill", "no cache", whole(s, seen_by, length=prompt)
    yield "out_decode", "cache", out[:, prompt:]
