"""How fast a method turns pairs, in the words of transformers' configurations: exactly, or with a note."""

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
    """How fast pairs turn, in transformers' words.

    Attributes:
      rope: transformers 5's `rope_parameters`.
      max_len: `max_position_embeddings`.
      note: where transformers will differ; empty: nowhere.

    """

    rope: dict[str, Any]
    max_len: int
    note: str = ""


class ExportTarget(NamedTuple):
    """What is exported: a model, for sequences of `length` tokens (None: as the method says), with the method's own
    parameters.
    """

    cfg: ModelConfig
    length: int | None
    method_params: Mapping[str, Any]

    @property
    def trained_len(self) -> int:
        return self.cfg.trained_len


def theta_to_hf(base: float, asked: ExportTarget) -> HfRope:
    return HfRope({"rope_type": "default", "rope_theta": base}, asked.length or asked.trained_len)


def plain_to_hf(rope: Any, asked: ExportTarget) -> HfRope:
    return theta_to_hf(asked.cfg.rope_base, asked)


def base_to_hf(rope: ThetaRope, asked: ExportTarget) -> HfRope:
    return theta_to_hf(rope.base, asked)


def fixed_ntk_to_hf(rope: FixedNtkRope, asked: ExportTarget) -> HfRope:
    return theta_to_hf(ntk_base(asked.cfg, rope.alpha), asked)


def pi_to_hf(rope: PiRope, asked: ExportTarget) -> HfRope:
    said = {"rope_type": "linear", "factor": rope.factor, "rope_theta": asked.cfg.rope_base}
    return HfRope(said, asked.length or round(rope.factor * asked.trained_len))


def ntk_to_hf(rope: NtkRope, asked: ExportTarget) -> HfRope:
    """Transformers' alpha is 1 up to max_position_embeddings: ours there goes into the base, and the growth beyond
    becomes relative to it. Exact at all lengths.
    """
    reach = rope.reach or asked.trained_len
    scale, alpha = rope.scale or reach / (2 * asked.trained_len), rope.alpha(asked.cfg, reach)
    factor = scale * reach / asked.trained_len / alpha
    return HfRope({"rope_type": "dynamic", "factor": factor, "rope_theta": ntk_base(asked.cfg, alpha)}, reach)


def yarn_to_hf(rope: YarnRope, asked: ExportTarget) -> HfRope:
    """Some releases of transformers take max_position_embeddings / original for the factor, so it always is that."""
    said = {
        "rope_type": "yarn", "factor": rope.factor, "original_max_position_embeddings": asked.trained_len,
        "beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow, "rope_theta": asked.cfg.rope_base,
    }  # fmt: skip
    said |= {} if rope.truncate else {"truncate": False}
    said |= {} if rope.scale is None else {"attention_factor": rope.scale}
    return HfRope(said, round(rope.factor * asked.trained_len))


def longrope_to_hf(rope: LongRope, asked: ExportTarget) -> HfRope:
    said = {
        "rope_type": "longrope", "short_factor": list(rope.short), "long_factor": list(rope.long),
        "factor": rope.factor, "original_max_position_embeddings": asked.trained_len,
        "rope_theta": asked.cfg.rope_base,
    }  # fmt: skip
    said |= {} if rope.scale is None else {"attention_factor": rope.scale}
    return HfRope(said, round(rope.factor * asked.trained_len))


def llama3_to_hf(rope: Llama3Rope, asked: ExportTarget) -> HfRope:
    said = {
        "rope_type": "llama3", "factor": rope.factor, "low_freq_factor": rope.low, "high_freq_factor": rope.high,
        "original_max_position_embeddings": asked.trained_len, "rope_theta": asked.cfg.rope_base,
    }  # fmt: skip
    return HfRope(said, asked.length or round(rope.factor * asked.trained_len))


def frozen_to_hf(rope: RopeFn, asked: ExportTarget) -> HfRope | None:
    """Frequencies that depend on the length (CLEX), as they are at one: LongRoPE's factors say any frequencies.

    The temperature cannot depend on the length there; it is that of `length`.
    """
    cfg, length = asked.cfg, asked.length
    if length is None or length <= cfg.trained_len:
        return None
    short, long = (rope(cfg, n, dict(asked.method_params), None) for n in (cfg.trained_len, length))
    if long.query_scale != 1 and cfg.rotary_dim != cfg.head_dim:
        return None  # channels that do not turn would not be scaled
    short_R, long_R = (inv_freq(cfg) / np.asarray(x.inv_freq_R, np.float64) for x in (short, long))
    scale, short_scale = (x.scale * math.sqrt(x.query_scale) for x in (long, short))
    exact = "" if scale == short_scale else f", and scales attention as at {length}"
    said = {
        "rope_type": "longrope", "short_factor": short_R.tolist(), "long_factor": long_R.tolist(),
        "factor": length / cfg.trained_len, "original_max_position_embeddings": cfg.trained_len,
        "attention_factor": scale, "rope_theta": cfg.rope_base,
    }  # fmt: skip
    return HfRope(said, length, f"beyond {cfg.trained_len} tokens turns pairs as at {length}{exact}")


def rounded_to_hf(rope: DeepSpeedTables, asked: ExportTarget) -> HfRope | None:
    """PI's factor is in the tables."""
    divisor = rope.first.divisor if isinstance(rope.first, AtInit) else 1.0
    said = rope_to_hf(rope.inner if divisor == 1 else PiRope(divisor), asked)
    return said and said._replace(note="has exact positions, not those that DeepSpeed rounds")


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


def rope_to_hf(rope: RopeFn, asked: ExportTarget) -> HfRope | None:
    """-> None: transformers has no words for it."""
    kind = type(rope) if dataclasses.is_dataclass(rope) else rope
    return EXPORTERS[kind](rope, asked) if kind in EXPORTERS and asked.cfg.rotary_dim else None
