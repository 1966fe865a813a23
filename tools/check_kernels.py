"""Compares this machine's fast attention kernels with the dense softmax in float32: values and gradients.

Every pattern of attention, with grouped queries, head widths 64, 80 and 128, packed documents. Run it on the
accelerator: `python -m tools.check_kernels`. One line for each case; exit code 1 if one is wrong.
"""

import dataclasses
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from longjax.attention.backends import default_backend
from longjax.attention.core import (
    MASK_VALUE,
    AttentionBackend,
    AttentionMetadata,
    BranchInputs,
    Dense,
    TokenPositions,
    join_qkv,
    split_qkv,
)
from longjax.attention.landmark.blocks import top_blocks
from longjax.attention.landmark.memory import LandmarkMemory
from longjax.config import ModelConfig
from longjax.methods import METHODS
from longjax.methods.method import plain_rope
from longjax.model.llama import Llama

ALLOWED = 3e-3  # relative norm of the differences; rounding to bfloat16 once makes 1.65e-3
# Of what is rounded twice: gradients of keys that several query heads share, which are sums of rounded numbers;
# Landmark's queries and keys, which are bfloat16 before and after their rotation.
ALLOWED_TWICE_ROUNDED = (ALLOWED**2 + 1.65e-3**2) ** 0.5
B, T, K = 2, 1536, 2
CHOOSE_KEYS = {"lm_infinite_topk", "landmark"}  # by their scores, so that rounding may choose others
SMALL = {  # settings instead of defaults for longer rows
    "self_extend": {"window": 256, "group": 16}, "self_extend_auto": {"window": 256}, "rerope": {"window": 256},
    "leaky_rerope": {"window": 256}, "self_extend_octaves": {"window": 128}, "longlora_sft": {"group": 512},
}  # fmt: skip


class Case(NamedTuple):
    """A method, sizes of its attention, and whether rows hold packed documents."""

    name: str
    heads: int
    width: int
    documents: bool


def cases() -> Iterator[Case]:
    """All methods, and the patterns of four of them at other sizes."""
    for name in METHODS:
        if name not in CHOOSE_KEYS:
            yield Case(name, 4, 128, False)
    for name in ("base", "self_extend", "lm_infinite", "longlora"):
        yield from (Case(name, 4, width, False) for width in (64, 80))
        yield Case(name, 2, 128, False)
        yield Case(name, 4, 128, True)


@dataclasses.dataclass
class RecordingBackend:
    """A back end that records its inputs."""

    branches: tuple[BranchInputs, ...] = ()

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        self.branches = branches
        return branches[0].q_BTNH


def branches_of(case: Case) -> tuple[BranchInputs, ...]:
    """The inputs of the softmax, from random bfloat16 numbers."""
    rng = np.random.default_rng(0)
    qkv = [jnp.asarray(rng.normal(size=(B, T, heads, case.width)), jnp.bfloat16) for heads in (case.heads, K, K)]
    cfg = ModelConfig(dim=case.heads * case.width, heads=case.heads, kv_heads=K, trained_len=1024)
    method, positions = METHODS[case.name](**SMALL.get(case.name, {})), TokenPositions.whole(B, T)
    if case.documents:
        starts_T = np.maximum.accumulate(np.where(np.isin(np.arange(T), (0, 200, 201, 1000)), np.arange(T), 0))
        positions = TokenPositions.documents(jnp.broadcast_to(jnp.asarray(starts_T, jnp.int32), (B, T)))
    rope = method.rope(cfg, T, {}, None) if case.name == "alibi" else plain_rope(cfg, T, {}, None)
    recorder = RecordingBackend()
    metadata = AttentionMetadata(positions, positions, rope, np.arange(case.heads, dtype=np.int32), backend=recorder)
    attention = Llama(cfg, method, train=method.attention_train is not None).attention(T)
    attention(qkv[0], qkv[1], qkv[2], metadata)
    return recorder.branches


def values(branches: tuple[BranchInputs, ...], backend: AttentionBackend, dtype: jnp.dtype) -> list[jax.Array]:
    """The output, and the gradients of all queries, keys and values."""
    arrays, rest = split_qkv(branches)
    qkv = jax.tree.map(lambda x: x.astype(dtype), arrays)
    d_out = jax.random.normal(jax.random.key(0), qkv[0][0].shape, jnp.bfloat16).astype(dtype)

    @jax.jit
    def run(qkv, d_out):
        out, back = jax.vjp(lambda qkv: backend(join_qkv(qkv, rest)), qkv)
        return out, back(d_out)

    with jax.default_matmul_precision("highest"):
        return jax.tree.leaves(run(qkv, d_out))


def errors(case: Case) -> list[float]:
    """Relative norms of the differences: of values, and the largest of queries', keys' and values' gradients."""
    branches = branches_of(case)
    expected = values(branches, Dense(), jnp.dtype(jnp.float32))
    actual = values(branches, default_backend(), jnp.dtype(jnp.bfloat16))
    norms = [
        float(jnp.linalg.norm(x.astype(jnp.float32) - y) / jnp.linalg.norm(y))
        for x, y in zip(actual, expected, strict=True)
    ]
    return [norms[0], *(max(norms[1 + i :: 3]) for i in range(3))]


def choose_by_number(score_BTNM: jax.Array, top_k: int) -> jax.Array:
    """Choose among the blocks that may be opened by their numbers alone: by scores, rounding may choose others."""
    order_M = jnp.asarray(np.random.default_rng(0).permutation(score_BTNM.shape[-1]), jnp.float32)
    return top_blocks(jnp.where(score_BTNM > MASK_VALUE, order_M, MASK_VALUE), top_k)


def landmark_error() -> float:
    """Relative norm of the difference in attention to opened blocks; its gradients are by no kernel."""
    rng, N, H = np.random.default_rng(0), 4, 128
    qkv = [jnp.asarray(rng.normal(size=(B, T, heads, H)), jnp.bfloat16) for heads in (N, K, K)]
    rope, positions = plain_rope(ModelConfig(dim=N * H, heads=N, kv_heads=K), T, {}, None), TokenPositions.whole(B, T)

    def attend(backend: AttentionBackend, dtype: jnp.dtype) -> jax.Array:
        q_BTNH, k_BTKH, v_BTKH = (x.astype(dtype) for x in qkv)
        metadata = AttentionMetadata(positions, positions, rope, np.arange(N, dtype=np.int32), backend=backend)
        with jax.default_matmul_precision("highest"):
            attention = jax.jit(LandmarkMemory(64, 5, choose=choose_by_number))
            return attention(q_BTNH, k_BTKH, v_BTKH, metadata)[0].astype(jnp.float32)

    expected, actual = attend(Dense(), jnp.dtype(jnp.float32)), attend(default_backend(), jnp.dtype(jnp.bfloat16))
    return float(jnp.linalg.norm(actual - expected) / jnp.linalg.norm(expected))


def allowed(case: Case) -> tuple[float, ...]:
    """The largest allowed `errors` of a case."""
    shared = ALLOWED_TWICE_ROUNDED if case.heads > K else ALLOWED
    return ALLOWED, ALLOWED, shared, shared


def main(argv: list[str]) -> None:
    """Prints a line for each case; exits with 1 if one is wrong."""
    print(f"{jax.devices()[0].device_kind}, {default_backend()}")
    print(f"relative errors, at most {ALLOWED}; {ALLOWED_TWICE_ROUNDED:.1e} of what is rounded twice")
    print(f"{'':<44}   values      dq       dk       dv")
    wrong = 0
    for case in cases():
        norms = errors(case)
        bad = not all(x <= limit for x, limit in zip(norms, allowed(case), strict=True))
        wrong += bad
        name = f"{case.name}, {case.heads} heads of {case.width}{', documents' if case.documents else ''}"
        print(f"{name:<44} {'  '.join(f'{x:.1e}' for x in norms)}{'  WRONG' if bad else ''}", flush=True)
    error = landmark_error()
    bad = not error <= ALLOWED_TWICE_ROUNDED  # so NaN is bad
    wrong += bad
    print(f"{'landmark, blocks that are opened':<44} {error:.1e}{'  WRONG' if bad else ''}")
    print("all are right" if not wrong else f"{wrong} are wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    app.run(main)
