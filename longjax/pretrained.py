"""A base model in a Hugging Face directory: config.json, *.safetensors, tokenizer.model."""

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from longjax import safetensors
from longjax.config import ModelConfig
from longjax.convert import from_hf, to_hf
from longjax.hf_config import model_of


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"--base_dir={folder}: config.json is missing or damaged") from error


def load_config(folder: pathlib.Path, dtype: str) -> ModelConfig:
    """-> the shape of the model, to compute in `dtype`."""
    return dataclasses.replace(model_of(read_config(folder)), dtype=dtype)


def load_params(folder: pathlib.Path, cfg: ModelConfig) -> dict[str, np.ndarray]:
    """-> float32 parameters."""
    state = safetensors.read_folder(folder)
    return {name: x.astype(np.float32) for name, x in from_hf(state, cfg).items()}


def save(folder: pathlib.Path, params: dict[str, Any], cfg: ModelConfig, tokenizer: bytes) -> None:
    """Writes a LLaMA as bfloat16, in both dialects of config.json (transformers 4 and 5)."""
    if cfg.parallel or cfg.norm != "rms" or not cfg.gated:
        raise ValueError("only the LLaMA family is written so far")
    folder.mkdir(parents=True, exist_ok=True)
    state = to_hf({name: np.asarray(x) for name, x in params.items()}, cfg)
    safetensors.write(folder / "model.safetensors", {name: x.astype(jnp.bfloat16) for name, x in state.items()})
    (folder / "tokenizer.model").write_bytes(tokenizer)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": cfg.vocab, "hidden_size": cfg.dim,
        "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads, "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_dim, "intermediate_size": cfg.ffn, "hidden_act": "silu", "rms_norm_eps": cfg.norm_eps,
        "max_position_embeddings": cfg.trained_len, "rope_theta": cfg.rope_base, "rope_scaling": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": cfg.rope_base}, "tie_word_embeddings": cfg.tied,
        "torch_dtype": "bfloat16", "dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
