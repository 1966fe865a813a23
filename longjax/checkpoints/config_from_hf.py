"""Reads Hugging Face configurations (a dict from config.json) as ModelConfig and Method.

Missing keys have the defaults of transformers 5.23.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from absl import logging

from longjax.checkpoints.config_values import checked_attention, checked_config
from longjax.checkpoints.rope_from_hf import rope_of, rope_parameters, trained_len
from longjax.config import ModelConfig
from longjax.methods.alibi import AlibiRope, mpt_alibi, no_rope
from longjax.methods.further import FurtherRope
from longjax.methods.identity import method_identity, with_identity
from longjax.methods.method import Method, full_attention, plain_rope
from longjax.methods.sliding_window import sliding_window

Config = Mapping[str, Any]
ACTS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu",
    "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
}  # fmt: skip


def check_supported(config: Config, key: str, *supported: Any) -> None:
    """Raises ValueError if the value of a key is not supported; the first supported value is its default."""
    value = config.get(key, supported[0])
    if value not in supported:
        raise ValueError(f"config.json: {key}={value!r} is not supported, only {', '.join(map(repr, supported))}")


def _llama(config: Config) -> dict[str, Any]:
    biases = ("q", "k", "v", "o") if config["attention_bias"] else ()
    return {"biases": biases + (("gate", "up", "down") if config["mlp_bias"] else ())}


def _mistral(config: Config) -> dict[str, Any]:
    return {}


def _qwen2(config: Config) -> dict[str, Any]:
    return {"biases": ("q", "k", "v")}


def _phi(config: Config) -> dict[str, Any]:
    check_supported(config, "qk_layernorm", False, None)
    return {
        "norm": "layer", "norm_eps": config["layer_norm_eps"], "gated": False, "parallel": True,
        "biases": ("q", "k", "v", "o", "up", "down", "norm", "unembed"),
    }  # fmt: skip


def _mpt(config: Config) -> dict[str, Any]:
    """Width and biases may differ in the checkpoint: see `param_mapping.fit_vocab`."""
    attention = checked_attention(config)
    check_supported(attention, "alibi", True)
    check_supported(attention, "attn_type", "multihead_attention")
    check_supported(attention, "qk_ln", False, None)
    check_supported(attention, "prefix_lm", False, None)
    check_supported(config, "logit_scale", None)
    check_supported(config, "norm_type", "low_precision_layernorm", "layernorm")
    return {
        "norm": "layer", "norm_eps": config["layer_norm_epsilon"], "act": "gelu", "gated": False,
        "rotary_fraction": 0.0,
        "biases": () if config["no_bias"] else ("q", "k", "v", "o", "up", "down", "norm"),
        "clip_qkv": attention.get("clip_qkv") or None,
    }  # fmt: skip


def _no_window(config: Config) -> int | None:
    return None


def _mistral_window(config: Config) -> int | None:
    return config["sliding_window"]


def _qwen2_window(config: Config) -> int | None:
    if not config["use_sliding_window"] or config["sliding_window"] is None:
        return None
    layers, full = config["num_hidden_layers"], config["max_window_layers"]
    kinds = config.get("layer_types") or ["sliding_attention" if i >= full else "full_attention" for i in range(layers)]
    if len(set(kinds)) > 1:
        raise ValueError("config.json: a sliding window in some layers only (max_window_layers) is not supported")
    return config["sliding_window"] if kinds[0] == "sliding_attention" else None


class Family(NamedTuple):
    """A model_type of transformers.

    Attributes:
      fields: returns the fields of ModelConfig that only this family sets.
      window: returns how many tokens a query sees; None: all.
      defaults: of the keys that config.json may lack.

    """

    fields: Callable[[Config], dict[str, Any]]
    window: Callable[[Config], int | None]
    defaults: dict[str, Any]


COMMON = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
FAMILIES = {
    "llama": Family(_llama, _no_window, COMMON | {"attention_bias": False, "mlp_bias": False}),
    "mistral": Family(
        _mistral, _mistral_window,
        COMMON | {"sliding_window": 4096, "num_key_value_heads": 8, "max_position_embeddings": 131_072},
    ),
    "qwen2": Family(
        _qwen2, _qwen2_window,
        COMMON | {
            "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28, "num_key_value_heads": 32,
            "max_position_embeddings": 32_768,
        },
    ),
    "phi": Family(_phi, _no_window, COMMON | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "mpt": Family(
        _mpt, _no_window,
        COMMON | {
            "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "no_bias": True, "expansion_ratio": 4,
            "attn_config": {},
        },
    ),
}  # fmt: skip
MPT_KEYS = {
    "d_model": "hidden_size", "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers",
    "max_seq_len": "max_position_embeddings",
}  # fmt: skip


def family_of(config: Config) -> tuple[Family, dict[str, Any]]:
    """Returns the family, and the configuration by LLaMA's keys with all defaults filled in."""
    kind = config.get("model_type", "llama")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"config.json: unknown model_type {kind!r}: supported are {', '.join(FAMILIES)}")
    family, config = FAMILIES[kind], checked_config(config)
    if kind != "phi" and rope_parameters(config).get("partial_rotary_factor", 1) != 1:
        raise ValueError(f"config.json: partial_rotary_factor is not supported for {kind}: transformers ignores it")
    whole = family.defaults | {MPT_KEYS.get(key, key): value for key, value in config.items()}
    if "expansion_ratio" in family.defaults:
        whole["intermediate_size"] = int(whole["expansion_ratio"] * whole["hidden_size"])
    return family, whole


def model_of(config: Config) -> ModelConfig:
    """Returns the shape of the model; `trained_len` and `rope_base` are those of the base model.

    The checkpoint may have more tokens than config.json says: see `param_mapping.fit_vocab`. Raises ValueError for a
    missing key or what is not supported.
    """
    try:
        return _model_of(*family_of(config))
    except KeyError as missing:
        raise ValueError(f"config.json has no {missing}") from missing


def _model_of(family: Family, config: Config) -> ModelConfig:
    rope, heads = rope_parameters(config), config["num_attention_heads"]
    check_supported(config, "hidden_act", *ACTS)
    if heads % (config.get("num_key_value_heads") or heads):
        raise ValueError(
            f"config.json: num_key_value_heads={config['num_key_value_heads']} does not divide {heads} heads"
        )
    shared = {
        "vocab": config["vocab_size"],
        "dim": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "ffn": config["intermediate_size"],
        "head_width": config.get("head_dim"),
        "rope_base": rope["rope_theta"],
        "rotary_fraction": rope.get("partial_rotary_factor", 1.0),
        "norm_eps": config["rms_norm_eps"],
        "act": ACTS[config["hidden_act"]],
        "tied": bool(config["tie_word_embeddings"]),
        "trained_len": trained_len(config),
    }
    return ModelConfig(**shared | family.fields(config))


def method_of(config: Config) -> Method:
    """Returns the base's method: RoPE or ALiBi, and a sliding window where the configuration has one.

    It goes with `model_of` of the same configuration.
    """
    family, whole = family_of(config)
    if "attn_config" in whole:
        attention = checked_attention(whole)
        bias_max = float(attention.get("alibi_bias_max", 8))
        if bias_max != 8:
            logging.warning("alibi_bias_max=%g is honored here; transformers 5.23 ignores it", bias_max)
        return mpt_alibi(bias_max, attention.get("softmax_scale"))
    method, size = rope_of(whole), family.window(whole)
    if size is None:
        return method
    window = sliding_window(size)
    windowed = dataclasses.replace(method, attention=window.attention)
    return with_identity(windowed, "compose", {"position": method, "attention": window})


def on_base(method: Method, base: Method) -> Method:
    """Returns the method applied to a checkpoint whose configuration has the method `base` (`method_of`).

    What the method leaves as it is stays the checkpoint's: PI on Mistral keeps the sliding window, LM-Infinite on
    MPT keeps ALiBi. What it changes replaces the checkpoint's: PI on Llama 3.1 has PI's frequencies and not
    llama3's, StreamingLLM on Mistral its own window and sinks; but on a base of `further`, both are applied. Raises
    ValueError for RoPE methods on ALiBi.
    """
    rotates = not (method.rope in (plain_rope, no_rope) or isinstance(method.rope, AlibiRope))
    if isinstance(base.rope, AlibiRope) and rotates:
        raise ValueError("--method rescales rotation, but this checkpoint has none: it was trained with ALiBi (MPT)")
    rope = base.rope if method.rope is plain_rope else method.rope
    if isinstance(base.rope, FurtherRope):
        rope = dataclasses.replace(base.rope, method=method.rope)
    attention = base.attention if method.attention is full_attention else method.attention
    if (rope, attention) == (method.rope, method.attention):
        return method
    known = method_identity(base)
    parts = known["settings"] if known["name"] == "compose" else {"position": known, "attention": known}
    settings = {"method": method}  # and what stays of the base, whose rest may differ between a base and an export
    settings |= {"rope": parts["position"]} if rope != method.rope else {}
    settings |= {"attention": parts["attention"]} if attention != method.attention else {}
    return with_identity(dataclasses.replace(method, rope=rope, attention=attention), "on_base", settings)
