"""Checks the values of a Hugging Face configuration, which may come from anyone, before a model is made from them."""

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

INTEGERS = {  # by key, the least value
    "vocab_size": 1, "hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 1, "max_position_embeddings": 1, "original_max_position_embeddings": 1,
    "sliding_window": 0, "max_window_layers": 0, "d_model": 1, "n_heads": 1, "n_layers": 1, "max_seq_len": 1,
}  # fmt: skip
NULLABLE = (
    "num_key_value_heads", "head_dim", "original_max_position_embeddings", "sliding_window", "max_window_layers",
)  # fmt: skip
POSITIVE = (
    "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta", "partial_rotary_factor", "expansion_ratio",
)  # fmt: skip
UNREAD = (  # they change the model, and are not supported; None, 0, false, 1 and {} leave it as it is
    "quantization_config", "compression_config", "logits_scaling", "attention_multiplier", "embedding_multiplier",
    "residual_multiplier", "attn_logit_softcapping", "final_logit_softcapping", "num_experts", "num_local_experts",
    "use_qk_norm", "qk_norm",
)  # fmt: skip
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "no_bias", "use_sliding_window")
ROPE_WORDS = ("type", "rope_type", "act")
ROPE_FLAGS = ("truncate", "finetuned")
ROPE_LISTS = ("short_factor", "long_factor")
MPT_NUMBERS = ("alibi_bias_max", "softmax_scale", "clip_qkv")  # of attn_config


def checked_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration whose whole numbers are of type int.

    Args:
      config: config.json.

    Raises:
      ValueError: a value is of another type or out of its range; a key is not supported.

    """
    config = dict(config)
    for key in (key for key in UNREAD if config.get(key) not in (None, False, 1, {})):
        raise ValueError(f"config.json: {key} changes the model and is not supported: remove it only if it is unused")
    for key, least in INTEGERS.items():
        value = config.get(key)
        if key in config and not (value is None and key in NULLABLE):
            if not is_number(value) or value != int(value) or value < least:
                raise ValueError(f"config.json: {key}={value!r} must be an integer of at least {least}")
            config[key] = int(value)
    for key in FLAGS:
        if config.get(key) not in (None, False, True):
            raise ValueError(f"config.json: {key}={config[key]!r} must be true or false")
    for key in POSITIVE:
        value = config.get(key)
        if value is not None and not (is_number(value) and value > 0):
            raise ValueError(f"config.json: {key}={value!r} must be a positive number")
    return config


def checked_rope(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Returns the RoPE settings of a key, {} if it has none. Raises ValueError if one of them is no finite number."""
    rope = config.get(key) or {}
    if not isinstance(rope, Mapping):
        raise ValueError(f"config.json: {key}={rope!r} must be an object, such as {{'type': 'linear', 'factor': 4.0}}")
    for name, value in rope.items():
        if not (value is None or is_rope_value(name, value)):
            kind = "a list of numbers" if name in ROPE_LISTS else "a finite number"
            raise ValueError(f"config.json: {name}={str(value)[:80]!r} of {key} must be {kind}")
    return dict(rope)


def is_rope_value(name: str, value: Any) -> bool:
    """Returns whether a RoPE setting is of its type."""
    if name in ROPE_LISTS:
        return isinstance(value, list) and all(map(is_number, value))
    if name in ROPE_WORDS:
        return isinstance(value, str)
    return isinstance(value, bool) if name in ROPE_FLAGS else is_number(value)


def checked_attention(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns attn_config of an MPT. Raises ValueError if it is no object, or a number in it is none."""
    attention = config["attn_config"]
    if not isinstance(attention, Mapping):
        raise ValueError(f"config.json: attn_config={attention!r} must be an object")
    for key in MPT_NUMBERS:
        if attention.get(key) not in (None, 0) and not (is_number(attention[key]) and attention[key] > 0):
            raise ValueError(f"config.json: {key}={attention[key]!r} of attn_config must be a positive number")
    return attention


def is_number(value: Any) -> TypeGuard[int | float]:
    """Returns whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
