"""Exports a method's RoPE as transformers' `rope_parameters`, with a note where they cannot match exactly."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from longjax.attention.rope import inv_freq
from longjax.config import ModelConfig
from longjax.methods.clex import ClexRope
from longjax.methods.ds_bf16 import AtInit, DeepSpeedTables
from longjax.methods.llama3 import Llama3Rope
from longjax.methods.longrope import LongRope
from longjax.methods.method import RopeFn, plain_rope
from longjax.methods.ntk import FixedNtkRope, NtkRope, ntk_base
from longjax.methods.pi import DynamicPiRope, PiRope
from longjax.methods.theta import ThetaRope
from longjax.methods.yarn import DynamicYarnRope, PartNtkRope, YarnRope


class HfRope(NamedTuple):
    """RoPE settings of transformers.

    Attributes:
      rope: transformers 5's `rope_parameters`.
      max_len: `max_position_embeddings`.
      note: where transformers computes other frequencies; empty: nowhere.

    """

    rope: dict[str, Any]
    max_len: int
    note: str = ""


class ExportTarget(NamedTuple):
    """What is exported.

    Attributes:
      cfg: of the model.
      length: of the sequences that it is for, in tokens; None: the method's.
      method_params: parameters that only the method has.

    """

    cfg: ModelConfig
    length: int | None
    method_params: Mapping[str, Any]

    @property
    def trained_len(self) -> int:
        return self.cfg.trained_len


def theta_to_hf(base: float, target: ExportTarget) -> HfRope:
    """Exports plain RoPE of a base."""
    return HfRope({"rope_type": "default", "rope_theta": base}, target.length or target.trained_len)


def plain_to_hf(rope: Any, target: ExportTarget) -> HfRope:
    """Exports the model's own RoPE."""
    return theta_to_hf(target.cfg.rope_base, target)


def base_to_hf(rope: ThetaRope, target: ExportTarget) -> HfRope:
    """Exports RoPE with another base."""
    return theta_to_hf(rope.base, target)


def fixed_ntk_to_hf(rope: FixedNtkRope, target: ExportTarget) -> HfRope:
    """Exports NTK of a fixed alpha as its base."""
    return theta_to_hf(ntk_base(target.cfg, rope.alpha), target)


def pi_to_hf(rope: PiRope, target: ExportTarget) -> HfRope:
    """Exports position interpolation."""
    settings = {"rope_type": "linear", "factor": rope.factor, "rope_theta": target.cfg.rope_base}
    return HfRope(settings, target.length or round(rope.factor * target.trained_len))


def ntk_to_hf(rope: NtkRope, target: ExportTarget) -> HfRope:
    """Exports dynamic NTK, exactly at all lengths.

    Transformers' alpha is 1 up to max_position_embeddings: the method's alpha there goes into the base, and the growth
    beyond becomes relative to it.
    """
    reach = rope.reach or target.trained_len
    scale, alpha = rope.scale or reach / (2 * target.trained_len), rope.alpha(target.cfg, reach)
    factor = scale * reach / target.trained_len / alpha
    return HfRope({"rope_type": "dynamic", "factor": factor, "rope_theta": ntk_base(target.cfg, alpha)}, reach)


def yarn_to_hf(rope: YarnRope, target: ExportTarget) -> HfRope:
    """Exports YaRN; the factor is max_position_embeddings / original, as some releases of transformers compute it."""
    settings = {
        "rope_type": "yarn", "factor": rope.factor, "original_max_position_embeddings": target.trained_len,
        "beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow, "rope_theta": target.cfg.rope_base,
    }  # fmt: skip
    settings |= {} if rope.truncate else {"truncate": False}
    settings |= {} if rope.scale is None else {"attention_factor": rope.scale}
    return HfRope(settings, round(rope.factor * target.trained_len))


def longrope_to_hf(rope: LongRope, target: ExportTarget) -> HfRope:
    """Exports LongRoPE."""
    settings = {
        "rope_type": "longrope", "short_factor": list(rope.short), "long_factor": list(rope.long),
        "factor": rope.factor, "original_max_position_embeddings": target.trained_len,
        "rope_theta": target.cfg.rope_base,
    }  # fmt: skip
    settings |= {} if rope.scale is None else {"attention_factor": rope.scale}
    return HfRope(settings, round(rope.factor * target.trained_len))


def llama3_to_hf(rope: Llama3Rope, target: ExportTarget) -> HfRope:
    """Exports Llama 3.1's RoPE."""
    settings = {
        "rope_type": "llama3", "factor": rope.factor, "low_freq_factor": rope.low, "high_freq_factor": rope.high,
        "original_max_position_embeddings": target.trained_len, "rope_theta": target.cfg.rope_base,
    }  # fmt: skip
    return HfRope(settings, target.length or round(rope.factor * target.trained_len))


def frozen_to_hf(rope: RopeFn, target: ExportTarget) -> HfRope | None:
    """Exports frequencies that depend on the length (CLEX) as they are at one: LongRoPE's factors express any.

    The temperature cannot depend on the length there; it is that of `length`. Returns None without a length.
    """
    cfg, length = target.cfg, target.length
    if length is None or length <= cfg.trained_len:
        return None
    short, long = (rope(cfg, n, dict(target.method_params), None) for n in (cfg.trained_len, length))
    if long.query_scale != 1 and cfg.rotary_dim != cfg.head_dim:
        return None  # channels that do not turn would not be scaled
    short_R, long_R = (inv_freq(cfg) / np.asarray(x.inv_freq_R, np.float64) for x in (short, long))
    scale, short_scale = (x.scale * math.sqrt(x.query_scale) for x in (long, short))
    exact = "" if scale == short_scale else f", and scales attention as at {length}"
    settings = {
        "rope_type": "longrope", "short_factor": short_R.tolist(), "long_factor": long_R.tolist(),
        "factor": length / cfg.trained_len, "original_max_position_embeddings": cfg.trained_len,
        "attention_factor": scale, "rope_theta": cfg.rope_base,
    }  # fmt: skip
    return HfRope(settings, length, f"beyond {cfg.trained_len} tokens has the frequencies of {length}{exact}")


def rounded_to_hf(rope: DeepSpeedTables, target: ExportTarget) -> HfRope | None:
    """Exports exact positions; a factor of PI is in the tables."""
    divisor = rope.first.divisor if isinstance(rope.first, AtInit) else 1.0
    exact = rope_to_hf(rope.inner if divisor == 1 else PiRope(divisor), target)
    return exact and exact._replace(note="has exact positions, not those that DeepSpeed rounds")


EXPORTERS: dict[Any, Callable[[Any, ExportTarget], HfRope | None]] = {
    plain_rope: plain_to_hf,
    ThetaRope: base_to_hf,
    PiRope: pi_to_hf,
    FixedNtkRope: fixed_ntk_to_hf,
    NtkRope: ntk_to_hf,
    YarnRope: yarn_to_hf,
    LongRope: longrope_to_hf,
    Llama3Rope: llama3_to_hf,
    ClexRope: frozen_to_hf,
    DynamicPiRope: frozen_to_hf,
    DynamicYarnRope: frozen_to_hf,
    PartNtkRope: frozen_to_hf,
    DeepSpeedTables: rounded_to_hf,
}


def rope_to_hf(rope: RopeFn, target: ExportTarget) -> HfRope | None:
    """Returns the RoPE of a method as transformers' settings; None: they cannot express it."""
    kind = type(rope) if dataclasses.is_dataclass(rope) else rope
    return EXPORTERS[kind](rope, target) if kind in EXPORTERS and target.cfg.rotary_dim else None
