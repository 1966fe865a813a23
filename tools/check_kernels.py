"""Do this machine's fast attention kernels give the values and gradients of the dense softmax in float32?

Every pattern of attention, with grouped queries, head widths 64, 80 and 128, documents side by side. Run it on the
accelerator: `python -m tools.check_kernels`. One line a case; exit code 1 if one is wrong.
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
from longjax.attention.core import MASK_VALUE, AttentionBackend, AttentionMetadata, BranchInputs, Dense, TokenPositions
from longjax.attention.landmark.blocks import top_blocks
from longjax.attention.landmark.memory import LandmarkMemory
from longjax.config import ModelConfig
from longjax.methods import METHODS
from longjax.methods.method import plain_rope
from longjax.model.llama import Llama

ALLOWED = 3e-3  # in the norm of all differences; to round once to bfloat16 makes 1.65e-3
# What is rounded again: gradients of keys that several query heads share, which are sums of numbers that have been
# rounded; Landmark's queries and keys, which are rotated from numbers that bfloat16 can say.
TWICE = (ALLOWED**2 + 1.65e-3**2) ** 0.5
B, T, K = 2, 1536, 2
OTHERWISE = {"lm_infinite_topk", "landmark"}  # choose keys by their scores, so that rounding may choose others
SMALL = {  # where the defaults are made for longer rows
    "self_extend": {"window": 256, "group": 16}, "self_extend_auto": {"window": 256}, "rerope": {"window": 256},
    "leaky_rerope": {"window": 256}, "self_extend_octaves": {"window": 128}, "longlora_sft": {"group": 512},
}  # fmt: skip


class Case(NamedTuple):
    name: str
    heads: int
    width: int
    documents: bool


def cases() -> Iterator[Case]:
    for name in METHODS:
        if name not in OTHERWISE:
            yield Case(name, 4, 128, False)
    for name in ("base", "self_extend", "lm_infinite", "longlora"):
        yield from (Case(name, 4, width, False) for width in (64, 80))
        yield Case(name, 2, 128, False)
        yield Case(name, 4, 128, True)


@dataclasses.dataclass
class Caught:
    """In the place of a softmax: keeps what it was given."""

    parts: tuple[BranchInputs, ...] = ()

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array:
        self.parts = parts
        return parts[0].q_BTNH


def parts_of(case: Case) -> tuple[BranchInputs, ...]:
    """-> what the method brings to the softmax, of random numbers that bfloat16 can say."""
    rng = np.random.default_rng(0)
    qkv = [jnp.asarray(rng.normal(size=(B, T, heads, case.width)), jnp.bfloat16) for heads in (case.heads, K, K)]
    cfg = ModelConfig(dim=case.heads * case.width, heads=case.heads, kv_heads=K, trained_len=1024)
    method, where = METHODS[case.name](**SMALL.get(case.name, {})), TokenPositions.whole(B, T)
    if case.documents:
        begins_T = np.maximum.accumulate(np.where(np.isin(np.arange(T), (0, 200, 201, 1000)), np.arange(T), 0))
        where = TokenPositions.documents(jnp.broadcast_to(jnp.asarray(begins_T, jnp.int32), (B, T)))
    rope = method.rope(cfg, T, {}, None) if case.name == "alibi" else plain_rope(cfg, T, {}, None)
    caught = Caught()
    metadata = AttentionMetadata(where, where, rope, np.arange(case.heads, dtype=np.int32), backend=caught)
    attention = Llama(cfg, method, train=method.attention_train is not None).attention(T)
    attention(qkv[0], qkv[1], qkv[2], metadata)
    return caught.parts


def values(parts: tuple[BranchInputs, ...], softmax: AttentionBackend, dtype: jnp.dtype) -> list[jax.Array]:
    """-> the output, and the gradients of all queries, keys and values."""
    qkv = tuple(tuple(x.astype(dtype) for x in (p.q_BTNH, p.k_BSKH, p.v_BSKH)) for p in parts)
    d_out = jax.random.normal(jax.random.key(0), qkv[0][0].shape, jnp.bfloat16).astype(dtype)

    def attend(qkv):
        named = [dict(zip(("q_BTNH", "k_BSKH", "v_BSKH"), xs, strict=True)) for xs in qkv]
        return softmax(tuple(part.replace(**new) for part, new in zip(parts, named, strict=True)))

    @jax.jit
    def run(qkv, d_out):
        out, back = jax.vjp(attend, qkv)
        return out, back(d_out)

    with jax.default_matmul_precision("highest"):
        return jax.tree.leaves(run(qkv, d_out))


def errors(case: Case) -> list[float]:
    """-> norms of the differences over norms: of values, and the largest of queries', keys' and values' gradients."""
    parts = parts_of(case)
    wanted = values(parts, Dense(), jnp.dtype(jnp.float32))
    found = values(parts, default_backend(), jnp.dtype(jnp.bfloat16))
    off = [
        float(jnp.linalg.norm(x.astype(jnp.float32) - y) / jnp.linalg.norm(y))
        for x, y in zip(found, wanted, strict=True)
    ]
    return [off[0], *(max(off[1 + which :: 3]) for which in range(3))]


def chosen(score_BTNM: jax.Array, top_k: int) -> jax.Array:
    """-> block_BTNJ by their numbers alone, of those that may be opened: by scores, rounding may choose others."""
    order_M = jnp.asarray(np.random.default_rng(0).permutation(score_BTNM.shape[-1]), jnp.float32)
    return top_blocks(jnp.where(score_BTNM > MASK_VALUE, order_M, MASK_VALUE), top_k)


def of_landmark() -> float:
    """-> norm of the difference over the norm, of attention to opened blocks; its gradients are by no kernel."""
    rng, N, H = np.random.default_rng(0), 4, 128
    qkv = [jnp.asarray(rng.normal(size=(B, T, heads, H)), jnp.bfloat16) for heads in (N, K, K)]
    rope, where = plain_rope(ModelConfig(dim=N * H, heads=N, kv_heads=K), T, {}, None), TokenPositions.whole(B, T)

    def attended(softmax: AttentionBackend, dtype: jnp.dtype) -> jax.Array:
        q_BTNH, k_BTKH, v_BTKH = (x.astype(dtype) for x in qkv)
        metadata = AttentionMetadata(where, where, rope, np.arange(N, dtype=np.int32), backend=softmax)
        with jax.default_matmul_precision("highest"):
            return jax.jit(LandmarkMemory(64, 5, choose=chosen))(q_BTNH, k_BTKH, v_BTKH, metadata)[0].astype(
                jnp.float32
            )

    wanted, found = attended(Dense(), jnp.dtype(jnp.float32)), attended(default_backend(), jnp.dtype(jnp.bfloat16))
    return float(jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted))


def allowed(case: Case) -> tuple[float, ...]:
    shared = TWICE if case.heads > K else ALLOWED
    return ALLOWED, ALLOWED, shared, shared


def main(argv: list[str]) -> None:
    print(f"{jax.devices()[0].device_kind}, {default_backend()}")
    print(f"relative errors, at most {ALLOWED}; {TWICE:.1e} of what is rounded twice")
    print(f"{'':<44}   values      dq       dk       dv")
    wrong = 0
    for case in cases():
        found = errors(case)
        bad = not all(x <= most for x, most in zip(found, allowed(case), strict=True))
        wrong += bad
        what = f"{case.name}, {case.heads} heads of {case.width}{', documents' if case.documents else ''}"
        print(f"{what:<44} {'  '.join(f'{x:.1e}' for x in found)}{'  WRONG' if bad else ''}", flush=True)
    found = of_landmark()
    bad = not found <= TWICE  # nor is what is no number
    wrong += bad
    print(f"{'landmark, blocks that are opened':<44} {found:.1e}{'  WRONG' if bad else ''}")
    print("all are right" if not wrong else f"{wrong} are wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    app.run(main)
