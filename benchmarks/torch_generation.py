"""The peer's generation: transformers' `generate`, for one token and for many."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import LlamaForCausalLM

from benchmarks.beside import case_main
from benchmarks.page import Row
from benchmarks.torch_llama import CUDA, SIZES, TINY, llama


def generation_seconds(model: LlamaForCausalLM, prompt: torch.Tensor, new: int) -> float:
    """Return the time of `new` tokens after the prompt."""
    start, generate = time.perf_counter(), getattr(model, "generate")  # noqa: B009, its types know too little
    with torch.inference_mode():
        tokens: Any = generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new, min_new_tokens=new, do_sample=False
        )  # fmt: skip
    assert tokens.shape[1] == prompt.shape[1] + new
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(prompt: int, rows: int, new: int, method: str, layers: int, tiny: bool) -> Iterator[Row]:
    """Measure one case."""
    if method != "base":
        raise ValueError(f"method={method}: the peer runs the base model only")
    device, sizes = torch.device("cuda" if CUDA else "cpu"), TINY if tiny else SIZES
    model = llama(sizes, layers, prompt + new, torch.bfloat16, device).eval()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    tokens = torch.randint(0, sizes["vocab_size"], (rows, prompt), device=device)
    generation_seconds(model, tokens, 2)  # warm-up
    one, many = (generation_seconds(model, tokens, n) for n in (1, new))
    decode = (many - one) / (new - 1)
    yield {
        "prefill_s": one, "prefill_tokens_s": rows * prompt / one, "decode_ms": 1e3 * decode,
        "tokens_s": rows / decode, "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if CUDA else None,
    }  # fmt: skip


if __name__ == "__main__":
    case_main(measure)
