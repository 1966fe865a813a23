"""Hugging Face's LlamaForCausalLM of LLaMA-2 7B's shape, random weights made on the device."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

CUDA = torch.cuda.is_available()
SIZES = {"hidden_size": 4096, "intermediate_size": 11_008, "num_attention_heads": 32, "vocab_size": 32_000}
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "vocab_size": 97}


def llama(sizes: dict[str, int], layers: int, length: int, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the model for sequences of at most `length` tokens."""
    rest = {
        "num_hidden_layers": layers, "num_key_value_heads": sizes["num_attention_heads"], "rms_norm_eps": 1e-5,
        "max_position_embeddings": length, "attn_implementation": "sdpa",
    }  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with device:
        model = LlamaForCausalLM(LlamaConfig(**sizes, **rest))
    torch.set_default_dtype(before)
    return model
