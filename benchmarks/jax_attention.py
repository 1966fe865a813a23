"""One method's attention in longjax: the back end alone, on the inputs that the method's branches prepare.

Queries and keys are rotated and scaled before the clock starts, by the very code that the model runs; what is timed is
`default_backend()` on these inputs, inside jit. Where branches share values, each has its own gradient here, which the
model adds up afterwards.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.beside import case_main, seconds_of, tried
from benchmarks.page import Row
from longjax.attention.backends import default_backend
from longjax.attention.core import AttentionBackend, AttentionMetadata, BranchInputs, Dense, TokenPositions
from longjax.config import ModelConfig
from longjax.methods import METHODS, Method
from longjax.model.llama import Llama
from longjax.training.flops import visible_keys

SHORT = 4096  # the context of the base, and so the window of those that have one
DOCUMENTS = 8  # of a packed row


@dataclasses.dataclass(frozen=True)
class Untouched:
    """In a back end's place: returns its inputs."""

    def __call__(self, branches: tuple[BranchInputs, ...]) -> Any:
        return branches


def short_of(length: int) -> int:
    """Return the context that is extended: a quarter of short rows, so that no method is plain causal there."""
    return min(SHORT, length // 4)


def method_of(name: str, length: int) -> Method:
    """Return the method of a pattern at a length."""
    if name == "self_extend":
        window = min(1024, length // 4)
        return METHODS[name](window, window // 16)
    return METHODS["base" if name in ("causal", "packed") else name]()


def token_positions(name: str, rows: int, length: int) -> TokenPositions:
    """Return the positions of the tokens; packed rows hold several documents."""
    tokens = TokenPositions.whole(rows, length)
    if name != "packed":
        return tokens
    size = length // DOCUMENTS
    return TokenPositions.at(tokens.index_BT, tokens.index_BT // size * size)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def inputs_of(name: str, cfg: ModelConfig, rows: int, length: int) -> tuple[BranchInputs, ...]:
    """Return the inputs of the method's back end, of random queries, keys and values."""
    method, tokens = method_of(name, length), token_positions(name, rows, length)
    keys = jax.random.split(jax.random.key(length), 3)
    shapes = [(rows, length, heads, cfg.head_dim) for heads in (cfg.heads, cfg.kv_heads, cfg.kv_heads)]
    q, k, v = (jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True))
    method_params = method.init_params(jax.random.key(0), cfg)
    rope = method.rope(cfg, length, method_params, None)
    metadata = AttentionMetadata(tokens, tokens, rope, jnp.arange(cfg.heads), backend=Untouched())
    return Llama(cfg, method, train=True).attention(length)(q, k, v, metadata)[0]  # pyright: ignore[reportReturnType]


def arrays_of(branches: tuple[BranchInputs, ...]) -> Any:
    """Return queries, keys and values of each branch."""
    return [(branch.q_BTNH, branch.k_BSKH, branch.v_BSKH) for branch in branches]


def with_arrays(branches: tuple[BranchInputs, ...], arrays: Any) -> tuple[BranchInputs, ...]:
    """Return the branches with these arrays, their heads static, as in the model."""
    head_N = np.arange(branches[0].q_BTNH.shape[2], dtype=np.int32)
    pairs = zip(branches, arrays, strict=True)
    return tuple(branch.replace(q_BTNH=q, k_BSKH=k, v_BSKH=v, head_N=head_N) for branch, (q, k, v) in pairs)


@partial(jax.jit, static_argnums=0)
def forward(backend: AttentionBackend, branches: tuple[BranchInputs, ...]) -> jax.Array:
    """Return the result of the back end."""
    return backend(with_arrays(branches, arrays_of(branches)))


@partial(jax.jit, static_argnums=0)
def both(backend: AttentionBackend, branches: tuple[BranchInputs, ...], d_out: jax.Array) -> tuple[jax.Array, Any]:
    """Return the result and the gradients of all queries, keys and values."""
    out, back = jax.vjp(lambda arrays: backend(with_arrays(branches, arrays)), arrays_of(branches))
    return out, back(d_out)[0]


def distance(a: jax.Array, b: jax.Array) -> float:
    """Return the norm of the difference over that of `b`, which is 0 where nothing is visible."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return float(jnp.linalg.norm(a - b) / jnp.maximum(jnp.linalg.norm(b), 1e-30))


def errors(name: str, cfg: ModelConfig, backend: AttentionBackend, length: int) -> Row:
    """Return the errors of values and gradients against the dense reference in float32 on the same numbers."""
    branches = inputs_of(name, cfg, 1, length)
    d_out = jax.random.normal(jax.random.key(1), branches[0].q_BTNH.shape, jnp.bfloat16)
    out, grads = both(backend, branches, d_out)
    exact = with_arrays(branches, jax.tree.map(lambda x: x.astype(jnp.float32), arrays_of(branches)))
    with jax.default_matmul_precision("highest"):
        true_out, true_grads = both(Dense(), exact, d_out.astype(jnp.float32))
    worst = max(jax.tree.leaves(jax.tree.map(distance, grads, true_grads)))
    return {"error_out": distance(out, true_out), "error_grad": worst}


def flops_of(name: str, cfg: ModelConfig, length: int) -> float:
    """Return the forward FLOPs of a row: two products for each visible pair of a query and a key."""
    attention = Llama(cfg, method_of(name, length), train=True).attention(length)
    seen = visible_keys(attention, cfg.heads, length // DOCUMENTS if name == "packed" else length)
    return 4.0 * cfg.head_dim * cfg.heads * length * seen


def times(name: str, cfg: ModelConfig, backend: AttentionBackend, rows: int, length: int) -> Row:
    """Measure the time of the forward pass, and of both passes."""
    branches = inputs_of(name, cfg, rows, length)
    d_out = jnp.ones_like(branches[0].q_BTNH)
    flops = rows * flops_of(name, cfg, length)
    f = seconds_of(lambda: forward(backend, branches), jax.block_until_ready)
    row = {"forward_ms": 1e3 * f, "forward_tflops": flops / f / 1e12}
    fb = seconds_of(lambda: both(backend, branches, d_out), jax.block_until_ready)
    return row | {"both_ms": 1e3 * fb, "both_tflops": 3.5 * flops / fb / 1e12}


def measure(
    methods: Sequence[str], heads: int, kv_heads: int, width: int, lengths: Sequence[int], tokens: int, exact_at: int
) -> Iterator[Row]:
    """Yield a row for each method and length; `tokens` of a call, errors at the length `exact_at`."""
    backend = default_backend()
    for method, length in itertools.product(methods, lengths):
        cfg = ModelConfig(
            dim=heads * width, heads=heads, kv_heads=kv_heads, head_width=width, trained_len=short_of(length)
        )  # fmt: skip
        row: Row = {"method": method, "length": length, "rows": max(1, tokens // length), "back_end": repr(backend)}
        with tried(row):
            row |= errors(method, cfg, backend, length) if length == exact_at else {}
            row |= times(method, cfg, backend, row["rows"], length)
        yield row


if __name__ == "__main__":
    case_main(measure)
