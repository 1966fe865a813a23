"""Reads the RoPE settings of a Hugging Face configuration (a dict from config.json) as a Method.

Three dialects: `rope_theta` + `rope_scaling` of transformers 4 with "type" or "rope_type", and `rope_parameters`
of transformers 5. Where both are there, `rope_scaling` wins, as in transformers 5.23.
"""

from collections.abc import Callable, Mapping
from typing import Any

from longjax.checkpoints.config_values import checked_rope
from longjax.methods.clex import clex
from longjax.methods.llama3 import llama3
from longjax.methods.longrope import longrope
from longjax.methods.method import Method, unfrozen
from longjax.methods.ntk import ntk_frozen
from longjax.methods.pi import pi
from longjax.methods.yarn import dynamic_yarn, yarn

Config = Mapping[str, Any]
SYNONYMS = {"su": "longrope", "dynamic_yarn": "dynamic-yarn", None: "default"}
SCALED_FROM_ORIGINAL = ("yarn", "dynamic-yarn", "longrope", "llama3")  # the others are scaled from the maximal length
DEFAULT_THETA = 10_000.0
PHI_PARTIAL = 0.5  # transformers' default where the configuration has no partial_rotary_factor


def rope_parameters(config: Config) -> dict[str, Any]:
    """Returns the settings in transformers 5's dialect, with `rope_type` and `rope_theta` always there."""
    scaling, older = checked_rope(config, "rope_scaling"), checked_rope(config, "rope_parameters")
    rope = scaling or older.copy()
    kind = rope.get("rope_type", rope.get("type"))
    rope["rope_type"] = SYNONYMS.get(kind, kind)
    theta = rope.get("rope_theta", config.get("rope_theta"))
    if theta is None and older.get("rope_theta") not in (None, DEFAULT_THETA):
        raise ValueError("config.json: rope_scaling hides rope_theta of rope_parameters: write it into rope_scaling")
    rope["rope_theta"] = DEFAULT_THETA if theta is None else float(theta)
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if partial is None and config.get("model_type") == "phi":
        partial = PHI_PARTIAL
    if partial is not None:
        rope["partial_rotary_factor"] = float(partial)
    return rope


def trained_len(config: Config) -> int:
    """Returns the base's context C: the original length where the configuration has it, else the maximal one."""
    rope, key = rope_parameters(config), "original_max_position_embeddings"
    original = None
    if rope["rope_type"] in SCALED_FROM_ORIGINAL:
        original = config.get(key) or rope.get(key)  # Phi-3 keeps it outside, and it wins
    return int(original or config.get("max_position_embeddings", 2048))


def _yarn(rope: Config, config: Config) -> Method:
    factor = rope.get("factor") or config["max_position_embeddings"] / trained_len(config)
    return yarn(
        factor, rope.get("beta_fast") or 32.0, rope.get("beta_slow") or 1.0, rope.get("truncate", True),
        rope.get("attention_factor"), rope.get("mscale"), rope.get("mscale_all_dim"),
    )  # fmt: skip


def _dynamic_yarn(rope: Config, config: Config) -> Method:
    """LCEG's file: everything is relative to max_position_embeddings."""
    max_len = int(config["max_position_embeddings"])
    factor = max_len / trained_len(config) if rope.get("finetuned") else 1.0
    return unfrozen(dynamic_yarn(max_len, max_len, factor))


def _longrope(rope: Config, config: Config) -> Method:
    factor = rope.get("factor") or config["max_position_embeddings"] / trained_len(config)
    short, long = (",".join(repr(float(x)) for x in rope[name]) for name in ("short_factor", "long_factor"))
    return longrope(short, long, factor, rope.get("attention_factor"))


def _llama3(rope: Config, config: Config) -> Method:
    return llama3(rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"])


def _clex(rope: Config, config: Config) -> Method:
    log_scale = bool(config.get("log_scale", True))  # CLEXLlamaConfig's default
    return clex(rope.get("max_factor", 16), rope.get("act", "tanh"), rope.get("param_factor", 1), log_scale)


def _base(rope: Config, config: Config) -> Method:
    return Method()


def _pi(rope: Config, config: Config) -> Method:
    return pi(rope["factor"])


def _dynamic(rope: Config, config: Config) -> Method:
    return unfrozen(ntk_frozen(rope["factor"]))


ROPES: dict[str, Callable[[Config, Config], Method]] = {
    "default": _base, "linear": _pi, "dynamic": _dynamic, "yarn": _yarn, "dynamic-yarn": _dynamic_yarn,
    "longrope": _longrope, "llama3": _llama3, "clex": _clex,
}  # fmt: skip


def rope_of(config: Config) -> Method:
    """Returns the method of the configuration's RoPE settings. Raises ValueError for an unknown or incomplete type."""
    rope = {key: value for key, value in rope_parameters(config).items() if value is not None}
    kind = rope["rope_type"]
    if kind not in ROPES:
        raise ValueError(f"config.json: unknown rope type {kind!r}: supported are {', '.join(ROPES)}")
    try:
        return ROPES[kind](rope, config)
    except KeyError as missing:
        raise ValueError(f"config.json: rope type {kind!r} needs {missing}") from missing
