"""Checks the values of a Hugging Face configuration, which may come from anyone, before a model is made from them."""

import math
from collections.abc import Mapping
from typing import Any

INTEGERS = {  # by key, the least value
    "vocab_size": 1, "hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 1, "max_position_embeddings": 1, "original_max_position_embeddings": 1,
    "sliding_window": 0, "max_window_layers": 0, "d_model": 1, "n_heads": 1, "n_layers": 1, "max_seq_len": 1,
}  # fmt: skip
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
        if value is not None:
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
        kinds = (str,) if name in ROPE_WORDS else (bool,) if name in ROPE_FLAGS else ()
        numbers = value if isinstance(value, list) else [value]
        if not (value is None or isinstance(value, kinds) or (not kinds and all(map(is_number, numbers)))):
            raise ValueError(f"config.json: {name}={str(value)[:80]!r} of {key} must be a finite number")
    return dict(rope)


def is_number(value: Any) -> bool:
    """Returns whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
