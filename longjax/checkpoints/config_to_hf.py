"""Writes a model and a method as config.json, so that stock transformers computes the same, with notes where it cannot.

The dialects: `rope_parameters` and `dtype` of transformers 5; `rope_theta`, `rope_scaling` and `torch_dtype` of
transformers 4, which up to 4.44 reads no more than `type` and `factor`.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from longjax.checkpoints.config_values import checked_config
from longjax.checkpoints.rope_from_hf import rope_parameters
from longjax.checkpoints.rope_to_hf import ExportTarget, plain_to_hf, rope_to_hf
from longjax.config import ModelConfig
from longjax.methods.identity import method_identity, stable_repr
from longjax.methods.method import Method, full_attention
from longjax.methods.sliding_window import SlidingWindowAttention

Style = Literal["both", "4.36"]
STOCK = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")  # the rope types of transformers


class SourceConfig(NamedTuple):
    """The configuration of the checkpoint that an exported model comes from, and its method."""

    config: Mapping[str, Any]
    method: Method


class HfConfig(NamedTuple):
    """config.json, and notes on what stock transformers computes differently."""

    config: dict[str, Any]
    notes: list[str]


def export_config(
    target: ExportTarget, method: Method, source: SourceConfig | None, style: Style, dtype: str
) -> HfConfig:
    """Returns the configuration of an exported model.

    Args:
      target: the model and what it is for.
      method: of the model.
      source: where it comes from; None: a LLaMA of longjax.
      style: dialect, "both" or that of transformers 4.36.
      dtype: of the weights.

    Raises:
      ValueError: the style cannot express the method, or the model is no LLaMA and has no source.

    """
    config, notes = checked_config(source.config if source else llama_config(target.cfg)), []
    config.pop("auto_map", None)  # names code of the source, which is not copied
    config |= {"vocab_size": target.cfg.vocab, "dtype": dtype, "torch_dtype": dtype}
    config |= attention_config(config, target.cfg, method, source, notes)
    if target.cfg.rotary_dim:
        rope = rope_config(config, target, method, source, notes)
        config.pop("rope_parameters", None)
        config |= rope_dialects(rope, style)
    elif source is None or method.rope != source.method.rope:
        notes.append(f"lacks the positions of {stable_repr(method.rope)}")
    return HfConfig(config | {"longjax": provenance(target, method)}, notes)


def rope_config(
    config: dict[str, Any], target: ExportTarget, method: Method, source: SourceConfig | None, notes: list[str]
) -> dict[str, Any]:
    """Returns transformers 5's rope_parameters, those of the source if the method does not change them.

    Sets the context's length in `config`, and appends to `notes`.
    """
    partial = {} if target.cfg.rotary_fraction == 1 else {"partial_rotary_factor": target.cfg.rotary_fraction}
    if source and method.rope == source.method.rope and rope_parameters(config)["rope_type"] in STOCK:
        return rope_parameters(config) | partial
    hf_rope = rope_to_hf(method.rope, target)
    if hf_rope is None:
        advice = "" if target.length else " (name the length that it is for, if it has one)"
        notes.append(f"lacks the positions of {stable_repr(method.rope)}{advice}")
        hf_rope = plain_to_hf(None, target)
    elif hf_rope.note:
        notes.append(hf_rope.note)
    config["max_position_embeddings"] = hf_rope.max_len
    config.pop("original_max_position_embeddings", None)  # it would win over the one in rope_parameters
    return hf_rope.rope | partial


def attention_config(
    config: Mapping[str, Any], cfg: ModelConfig, method: Method, source: SourceConfig | None, notes: list[str]
) -> dict[str, Any]:
    """Returns the keys of config.json that tell the attention; Mistral is a LLaMA with a window. Appends to `notes`."""
    if method.attention == (source.method.attention if source else full_attention):
        return {}
    if method.attention is full_attention:
        return {"sliding_window": None} | ({"use_sliding_window": False} if "use_sliding_window" in config else {})
    biased = config.get("attention_bias") or config.get("mlp_bias")
    if (
        isinstance(method.attention, SlidingWindowAttention)
        and config["model_type"] in ("llama", "mistral")
        and not biased
    ):
        window = method.attention.window or cfg.trained_len
        return {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": window}
    notes.append(f"lacks the attention of {stable_repr(method.attention)}")
    return {}


def rope_dialects(rope: dict[str, Any], style: Style) -> dict[str, Any]:
    """Returns the keys of config.json with the RoPE settings, given as transformers 5's rope_parameters."""
    rest = {key: x for key, x in rope.items() if key not in ("rope_type", "type", "rope_theta")}
    partial = {"partial_rotary_factor": rest.pop("partial_rotary_factor")} if "partial_rotary_factor" in rest else {}
    kind, old = rope["rope_type"], {"rope_theta": rope["rope_theta"], "rope_scaling": None} | partial
    if rest.keys() == {"factor"}:
        old["rope_scaling"] = {"type": kind} | rest  # without rope_type: up to 4.44 there may be two keys only
    elif rest and style == "4.36":
        raise ValueError(f"--hf_config_style=4.36 has no rope type {kind!r}: choose both")
    elif rest:
        old["rope_scaling"] = {"type": kind, "rope_type": kind} | rest
    return old if style == "4.36" else old | {"rope_parameters": rope}


def llama_config(cfg: ModelConfig) -> dict[str, Any]:
    """Returns the configuration of a LLaMA that comes from no Hugging Face directory. Raises ValueError for others."""
    if cfg.parallel or cfg.norm != "rms" or not cfg.gated or cfg.clip_qkv or cfg.biases not in ((), (*"qkvo",)):
        raise ValueError("only a LLaMA is exported without the Hugging Face directory that it comes from")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": cfg.dim,
        "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads, "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_dim, "intermediate_size": cfg.ffn, "hidden_act": "silu", "rms_norm_eps": cfg.norm_eps,
        "max_position_embeddings": cfg.trained_len, "rope_theta": cfg.rope_base, "attention_bias": bool(cfg.biases),
        "tie_word_embeddings": cfg.tied, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def provenance(target: ExportTarget, method: Method) -> dict[str, Any]:
    """Returns what config.json tells about longjax's model; transformers keeps it and does not read it."""
    return {"method": method_identity(method), "trained_len": target.cfg.trained_len, "length": target.length}
