"""A model and a method as config.json, in both dialects, so that stock transformers computes what we do; and what it
cannot do, in words.

The dialects: `rope_parameters` and `dtype` of transformers 5; `rope_theta`, `rope_scaling` and `torch_dtype` of
transformers 4, which up to 4.44 reads no more than `type` and `factor`.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from longjax.checkpoints.rope_from_hf import rope_parameters
from longjax.checkpoints.rope_to_hf import ExportTarget, plain_to_hf, rope_to_hf
from longjax.config import ModelConfig
from longjax.methods.identity import method_identity, stable_repr
from longjax.methods.method import Method, full_attention
from longjax.methods.sliding_window import SlidingWindowAttention

Style = Literal["both", "4.36"]
STOCK = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")  # the rope types of transformers


class SourceConfig(NamedTuple):
    """The configuration that an exported model comes from, and the method that it describes."""

    config: Mapping[str, Any]
    method: Method


class Exported(NamedTuple):
    """config.json, and what stock transformers does otherwise."""

    config: dict[str, Any]
    notes: list[str]


def export_config(
    asked: ExportTarget, method: Method, source: SourceConfig | None, style: Style, dtype: str
) -> Exported:
    """Raises ValueError for what the style cannot say."""
    config, notes = dict(source.config if source else llama(asked.cfg)), []
    config |= {"vocab_size": asked.cfg.vocab, "dtype": dtype, "torch_dtype": dtype}
    config |= attention(config, asked.cfg, method, source, notes)
    if asked.cfg.rotary_dim:
        rope = rotation(config, asked, method, source, notes)
        config.pop("rope_parameters", None)
        config |= dialects(rope, style)
    elif source is None or method.rope != source.method.rope:
        notes.append(f"does not know the positions of {stable_repr(method.rope)}")
    return Exported(config | {"longjax": provenance(asked, method)}, notes)


def rotation(
    config: dict[str, Any], asked: ExportTarget, method: Method, source: SourceConfig | None, notes: list[str]
) -> dict[str, Any]:
    """-> transformers 5's rope_parameters; the context is set in `config`. What is not changed stays as it was."""
    partial = {} if asked.cfg.rotary_fraction == 1 else {"partial_rotary_factor": asked.cfg.rotary_fraction}
    if source and method.rope == source.method.rope and rope_parameters(config)["rope_type"] in STOCK:
        return rope_parameters(config) | partial
    said = rope_to_hf(method.rope, asked)
    if said is None:
        at = "" if asked.length else " (name the length that it is for, if it has one)"
        notes.append(f"does not know the positions of {stable_repr(method.rope)}{at}")
        said = plain_to_hf(None, asked)
    elif said.note:
        notes.append(said.note)
    config["max_position_embeddings"] = said.max_len
    config.pop("original_max_position_embeddings", None)  # it would win over the one in rope_parameters
    return said.rope | partial


def attention(
    config: Mapping[str, Any], cfg: ModelConfig, method: Method, source: SourceConfig | None, notes: list[str]
) -> dict[str, Any]:
    """-> keys of config.json. Mistral is a LLaMA with a window."""
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
    notes.append(f"does not know the attention of {stable_repr(method.attention)}")
    return {}


def dialects(rope: dict[str, Any], style: Style) -> dict[str, Any]:
    """-> the keys of config.json that tell of rotation."""
    rest = {key: x for key, x in rope.items() if key not in ("rope_type", "type", "rope_theta")}
    partial = {"partial_rotary_factor": rest.pop("partial_rotary_factor")} if "partial_rotary_factor" in rest else {}
    kind, old = rope["rope_type"], {"rope_theta": rope["rope_theta"], "rope_scaling": None} | partial
    if rest.keys() == {"factor"}:
        old["rope_scaling"] = {"type": kind} | rest  # without rope_type: up to 4.44 there may be two keys only
    elif rest and style == "4.36":
        raise ValueError(f"--hf_config_style=4.36 cannot say rope type {kind!r}; choose both")
    elif rest:
        old["rope_scaling"] = {"type": kind, "rope_type": kind} | rest
    return old if style == "4.36" else old | {"rope_parameters": rope}


def llama(cfg: ModelConfig) -> dict[str, Any]:
    """A configuration for a model that comes from no Hugging Face directory."""
    if cfg.parallel or cfg.norm != "rms" or not cfg.gated or cfg.clip_qkv or cfg.biases not in ((), (*"qkvo",)):
        raise ValueError("only a LLaMA is exported without the Hugging Face directory that it comes from")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": cfg.dim,
        "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads, "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_dim, "intermediate_size": cfg.ffn, "hidden_act": "silu", "rms_norm_eps": cfg.norm_eps,
        "max_position_embeddings": cfg.trained_len, "rope_theta": cfg.rope_base, "attention_bias": bool(cfg.biases),
        "tie_word_embeddings": cfg.tied, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def provenance(asked: ExportTarget, method: Method) -> dict[str, Any]:
    """Transformers keeps it and does not read it."""
    return {"method": method_identity(method), "trained_len": asked.cfg.trained_len, "length": asked.length}
