"""Do this machine's fast attention kernels give the values and gradients of the dense softmax in float32?

Every pattern of attention, with grouped queries, head widths 64, 80 and 128, documents side by side. Run it on the
accelerator: `python -m tools.check_kernels`. One line a case; exit code 1 if one is wrong.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from longjax.attention import Attention, Dense, Scene, Softmax, Tokens
from longjax.backends import best
from longjax.config import ModelConfig
from longjax.llama import Llama
from longjax.methods import METHODS
from longjax.methods.base import plain_rope

ALLOWED = 3e-3  # of bfloat16: about half of 2 ** -7, its last digit, in the norm of all differences
B, T, K = 2, 1536, 2
LARGE = {"lm_infinite_topk"}  # chooses keys by their scores, so that rounding may choose others


class Case(NamedTuple):
    name: str
    heads: int
    width: int
    documents: bool


def cases() -> Iterator[Case]:
    for name in METHODS:
        if name not in LARGE and not name.startswith("landmark"):
            yield Case(name, 4, 128, False)
    for name in ("base", "self_extend", "lm_infinite", "longlora"):
        yield from (Case(name, 4, width, False) for width in (64, 80))
        yield Case(name, 2, 128, False)
        yield Case(name, 4, 128, True)


def attention_of(case: Case) -> Attention:
    cfg = ModelConfig(dim=case.heads * case.width, heads=case.heads, kv_heads=K, trained_len=512)
    method = METHODS[case.name]()
    return Llama(cfg, method, train=method.attention_train is not None).attention(T)


def values(case: Case, softmax: Softmax, dtype: jnp.dtype) -> list[np.ndarray]:
    """-> out_BTNH, dq_BTNH, dk_BSKH, dv_BSKH of random inputs that bfloat16 can say."""
    rng = np.random.default_rng(0)
    shapes = [(B, T, heads, case.width) for heads in (case.heads, K, K, case.heads)]
    *qkv, d_out = (jnp.asarray(rng.normal(size=shape), jnp.bfloat16).astype(dtype) for shape in shapes)
    cfg = ModelConfig(dim=case.heads * case.width, heads=case.heads, kv_heads=K)
    rope = METHODS[case.name]().rope(cfg, T, {}, None) if case.name == "alibi" else plain_rope(cfg, T, {}, None)
    where = Tokens.whole(B, T)
    if case.documents:
        begins_T = np.maximum.accumulate(np.where(np.isin(np.arange(T), (0, 200, 201, 1000)), np.arange(T), 0))
        where = Tokens.at(where.index_BT, jnp.broadcast_to(jnp.asarray(begins_T), (B, T)))
    scene = Scene(where, where, rope, np.arange(case.heads, dtype=np.int32), softmax=softmax)

    @jax.jit
    def run(q, k, v, d_out):
        out, back = jax.vjp(lambda *qkv: attention_of(case)(*qkv, scene)[0], q, k, v)
        return out, *back(d_out)

    with jax.default_matmul_precision("highest"):
        return [np.asarray(x, np.float32) for x in run(*qkv, d_out)]


def errors(case: Case) -> list[float]:
    """-> norms of the differences over norms, of values and of the three gradients."""
    wanted = values(case, Dense(), jnp.dtype(jnp.float32))
    found = values(case, best(), jnp.dtype(jnp.bfloat16))
    return [float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in zip(found, wanted, strict=True)]


def main(argv: list[str]) -> None:
    print(f"{jax.devices()[0].device_kind}, {best()}: relative errors, at most {ALLOWED}")
    print(f"{'':<44}   values      dq       dk       dv")
    wrong = 0
    for case in cases():
        found = errors(case)
        bad = not max(found) <= ALLOWED
        wrong += bad
        what = f"{case.name}, {case.heads} heads of {case.width}{', documents' if case.documents else ''}"
        print(f"{what:<44} {'  '.join(f'{x:.1e}' for x in found)}{'  WRONG' if bad else ''}", flush=True)
    print("all are right" if not wrong else f"{wrong} are wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    app.run(main)
