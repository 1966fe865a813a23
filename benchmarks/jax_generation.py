"""One case of generation in longjax: a Generator, for one token and for many."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.beside import case_main, seconds_of
from benchmarks.kernels import Milliseconds, kernels, profiled
from benchmarks.page import Row
from longjax import methods
from longjax.attention.backends import default_backend
from longjax.attention.branched import BranchedAttention
from longjax.config import LLAMA2_7B, TINY, ModelConfig
from longjax.evals.requests import GenerationRequest
from longjax.inference.generator import Generator
from longjax.model.llama import Llama
from longjax.study import runner

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class NoTokenizer:
    """Decodes nothing: the text is not needed, and no token ends an answer early."""

    vocab: int
    eos_ids: tuple[int, ...] = ()

    def decode(self, ids: Any) -> str:
        return ""

    decode_text = decode


def random_weights(cfg: ModelConfig) -> Any:
    """Return random weights in the type of the activations, made on the device."""
    return jax.jit(lambda: jax.tree.map(lambda x: x.astype(cfg.dtype), runner.random_params(cfg, 0)))()


def generation_seconds(generator: Generator, prompt_BT: np.ndarray, new: int, size: int) -> float:
    """Return the time of all rows until the host has the answers; positions are those of `size` tokens."""
    requests = [GenerationRequest(prompt_T, {}, new, min_new_tokens=new) for prompt_T in prompt_BT]
    start = time.perf_counter()
    answers = generator(requests, size, np.full(len(requests), size))
    assert all(len(answer.ids) == new for answer in answers)
    return time.perf_counter() - start


def bytes_a_token(model: Llama, params: Any, rows: int, length: int) -> int:
    """Return the bytes of the weights, and of the keys and values that are visible to the newest query of each row."""
    weights = sum(x.nbytes for name, x in params.items() if name != "embed_VD" and hasattr(x, "nbytes"))
    attention, cfg = model.attention(length), model.cfg
    assert isinstance(attention, BranchedAttention)
    newest, head = jnp.int32(length - 1), jnp.int32(0)
    bounds = [branch.interval(newest, head) for branch in attention.branches]
    visible = sum(int(hi) - int(lo) for lo, hi in bounds)
    token = 2 * cfg.layers * cfg.kv_heads * cfg.head_dim * jnp.dtype(cfg.dtype).itemsize
    return weights + rows * visible * token


def copy_rate(size: int) -> float:
    """Return the bytes read and written a second by a plain copy."""
    x = jnp.zeros(size // 2, jnp.bfloat16)
    copy = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / seconds_of(lambda: copy(x), jax.block_until_ready)


def measure(prompt: int, rows: int, new: int, method: str, layers: int, tiny: bool, profile: int = 0) -> Iterator[Row]:
    """Measure one case."""
    cfg = dataclasses.replace(TINY if tiny else LLAMA2_7B, layers=layers)
    rate = copy_rate(2**20 if tiny else 2**31)
    model = Llama(cfg, methods.METHODS[method](), backend=default_backend())
    params = random_weights(cfg)
    generator = Generator(model, params, NoTokenizer(cfg.vocab))  # pyright: ignore[reportArgumentType]
    prompt_BT = np.random.default_rng(0).integers(0, cfg.vocab, (rows, prompt), np.int32)
    size = -(-(prompt + new) // 128) * 128
    first = [generation_seconds(generator, prompt_BT, n, size) for n in (1, new)]  # compile
    one, many = (generation_seconds(generator, prompt_BT, n, size) for n in (1, new))
    decode = (many - one) / (new - 1)
    moved = bytes_a_token(model, params, rows, prompt + new // 2)

    def token_kernels() -> Milliseconds:
        one, many = (kernels(lambda n=n: generation_seconds(generator, prompt_BT, n, size)) for n in (1, new))
        return Milliseconds({name: time / (new - 1) for name, time in (many - one).items()})

    stats = jax.local_devices()[0].memory_stats()
    yield {
        "prefill_s": one, "prefill_tokens_s": rows * prompt / one, "decode_ms": 1e3 * decode,
        "tokens_s": rows / decode, "gb": moved / 1e9, "tb_s": moved / decode / 1e12, "copy_tb_s": rate / 1e12,
        "of_copy": moved / decode / rate, "compile_s": sum(first) - one - many,
        "peak_gib": stats["peak_bytes_in_use"] / GIB if stats else None,
    }  # fmt: skip
    if profile:
        yield profiled(token_kernels)


if __name__ == "__main__":
    case_main(measure)
