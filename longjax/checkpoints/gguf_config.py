"""config.json of a GGUF file: from llama.cpp's metadata to Hugging Face's keys."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from longjax.checkpoints.json_files import first_names

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
KEYS = {  # of the metadata, after the architecture: Hugging Face's key
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta", "context_length": "max_position_embeddings",
}  # fmt: skip
NEEDED = [
    "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
    "attention.layer_norm_rms_epsilon", "context_length",
]  # fmt: skip
SCALING = "rope.scaling."
SCALING_KEYS = {"type", "factor", "original_context_length", "finetuned"}
REPEATED = {"vocab_size", "attention.value_length", "rope.dimension_count"}  # what other keys and shapes say, too
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA3_FACTORS = (8.0, 32.0)  # of Llama 3.1 and 3.2


def config_of(
    path: pathlib.Path, fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], factors_R: np.ndarray | None
) -> dict[str, Any]:
    """Returns config.json as Hugging Face would write it.

    Args:
      path: of the file, for messages.
      fields: its metadata by name.
      shapes: of its tensors by name.
      factors_R: what RoPE's wavelengths are multiplied by, if the file has that; else None.

    Raises:
      ValueError: the model is not supported, or a key is missing.

    """
    architecture = fields.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: the architecture {architecture!r} is not supported: {' and '.join(ARCHITECTURES)} are"
        )
    prefix = f"{architecture}."
    values = {name.removeprefix(prefix): plain(x) for name, x in fields.items() if name.startswith(prefix)}
    check_keys(path, values, fields)
    config = {
        "architectures": [ARCHITECTURES[architecture]], "model_type": architecture, "hidden_act": "silu",
        "rope_theta": 10_000.0, "num_key_value_heads": values["attention.head_count"],
    } | {KEYS[name]: x for name, x in values.items() if name in KEYS}  # fmt: skip
    check_repeated(path, config, values)
    return config | {
        "vocab_size": shapes.get("token_embd.weight", (0,))[0], "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": architecture == "llama" and "blk.0.attn_q.bias" in shapes, "torch_dtype": "bfloat16",
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        "rope_scaling": rope_scaling(path, config, values, factors_R),
    }  # fmt: skip


def plain(x: Any) -> Any:
    """Returns the shortest decimal number that is this float32, as config.json has it: 1e-05, not 9.999999747e-06."""
    return float(str(np.float32(x))) if isinstance(x, float) else x


def check_keys(path: pathlib.Path, values: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raises ValueError if a key is missing, or changes the model and is not known."""
    if missing := [name for name in NEEDED if name not in values]:
        raise ValueError(f"{path} has no {first_names(missing)}: copy or download it again")
    known = {*KEYS, *REPEATED, *(f"{SCALING}{name}" for name in SCALING_KEYS)}
    if unknown := [name for name in values if name not in known and values[name]]:
        raise ValueError(f"{path}: {first_names(unknown)} not supported: take the release in Hugging Face's format")
    if fields.get("split.count", 1) > 1:
        raise ValueError(f"{path} is one of {fields['split.count']} files: join them with llama-gguf-split --merge")


def check_repeated(path: pathlib.Path, config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raises ValueError if the widths of values and of rotation are not the width of keys."""
    width = config.get("head_dim", config["hidden_size"] // max(config["num_attention_heads"], 1))
    for name in ("attention.value_length", "rope.dimension_count"):
        if values.get(name, width) != width:
            raise ValueError(f"{path}: {name}={values[name]} beside heads of width {width} is not supported")


def rope_scaling(
    path: pathlib.Path, config: Mapping[str, Any], values: Mapping[str, Any], factors_R: np.ndarray | None
) -> dict[str, Any] | None:
    """Returns config.json's rope_scaling. Raises ValueError if it is of no known kind."""
    kind = values.get(f"{SCALING}type", "none")
    if factors_R is not None:
        return llama3_scaling(path, config, factors_R)
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise ValueError(f"{path}: {SCALING}type={kind!r} is not supported: none, linear and yarn are")
    scaling = {"rope_type": kind, "factor": values.get(f"{SCALING}factor")}
    trained = values.get(f"{SCALING}original_context_length")
    return scaling | ({"original_max_position_embeddings": trained} if kind == "yarn" and trained else {})


def llama3_scaling(path: pathlib.Path, config: Mapping[str, Any], factors_R: np.ndarray) -> dict[str, Any]:
    """Returns the scaling of Llama 3.1 or 3.2, of whichever these are the factors; of others raises ValueError."""
    turns_R = LLAMA3["original_max_position_embeddings"] / (
        2 * np.pi * config["rope_theta"] ** (np.arange(len(factors_R)) / len(factors_R))
    )
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    kept_R = np.clip((turns_R - low) / (high - low), 0, 1)
    for factor in LLAMA3_FACTORS:
        if np.allclose(factors_R, 1 / (kept_R + (1 - kept_R) / factor), rtol=1e-4):
            return {"rope_type": "llama3", "factor": factor, **LLAMA3}
    raise ValueError(f"{path}: rope_freqs.weight is not that of Llama 3.1 or 3.2: not supported")
