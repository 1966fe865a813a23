"""YaRN: keeps the pairs that turn often within the trained context, interpolates slow ones, and sharpens attention.

Peng et al. 2023, arXiv:2309.00071; equations 10 and 11 of arXiv:2409.12181. As the released code: the ramp is
linear in the index of the pair, and the temperature multiplies cosine and sine by 0.1 * ln(factor) + 1.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from longjax.attention.rope import Rope, inv_freq
from longjax.config import ModelConfig
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope, frozen
from longjax.methods.ntk import ntk_inv_freq


def pair_turning(cfg: ModelConfig, turns: float) -> float:
    """Returns the (fractional) index of the pair that turns `turns` times within the trained context."""
    radians = turns * 2 * math.pi
    return cfg.rotary_dim * math.log(cfg.trained_len / radians) / (2 * math.log(cfg.rope_base))


def correction_range(cfg: ModelConfig, fast: float, slow: float, truncate: bool = True) -> tuple[float, float]:
    """Returns (lo, hi): pairs up to lo, which turn `fast` times, are kept; from hi on they are interpolated."""
    lo, hi = pair_turning(cfg, fast), pair_turning(cfg, slow)
    if truncate:
        lo, hi = math.floor(lo), math.ceil(hi)
    return max(lo, 0), min(hi, cfg.rotary_dim - 1)  # not rotary_dim / 2 - 1: so do all implementations


@dataclasses.dataclass(frozen=True)
class Ramp:
    """ramp_R, from 0 at pair lo to 1 at pair hi, computed in `dtype` (bfloat16 only for audits)."""

    dtype: str = "float64"

    def __call__(self, pairs: int, lo: float, hi: float) -> np.ndarray:
        hi = hi + 0.001 if lo == hi else hi
        dtype = jnp.dtype(self.dtype)
        rise_R = (np.arange(pairs).astype(dtype) - np.asarray(lo, dtype)).astype(dtype) / np.asarray(hi - lo, dtype)
        return np.clip(rise_R.astype(np.float64), 0.0, 1.0)


def temperature(factor: float, weight: float = 1.0) -> float:
    """Returns what multiplies cosine and sine: 0.1 * weight * ln(factor) + 1."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


@dataclasses.dataclass(frozen=True)
class YarnRope:
    """YaRN's frequencies at every length; `scale` None: temperature(factor)."""

    factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    scale: float | None = None
    ramp: Ramp = Ramp()

    def __call__(self, cfg, length, method_params, key):
        inv_freq_R = inv_freq(cfg)
        lo, hi = correction_range(cfg, self.beta_fast, self.beta_slow, self.truncate)
        ramp_R = self.ramp(len(inv_freq_R), lo, hi)
        scale = temperature(self.factor) if self.scale is None else self.scale
        return fixed_rope(inv_freq_R * (1 - ramp_R) + inv_freq_R / self.factor * ramp_R, scale)


@dataclasses.dataclass(frozen=True)
class DynamicYarnRope:
    """YaRN with factor length / `divisor` beyond `max_len`, and `factor` up to there.

    `max_len` and `divisor` None: the trained length.
    """

    max_len: int | None = None
    divisor: int | None = None
    factor: float = 1.0

    def __call__(self, cfg, length, method_params, key) -> Rope:
        beyond = length > (self.max_len or cfg.trained_len)
        factor = length / (self.divisor or cfg.trained_len) if beyond else self.factor
        return YarnRope(factor)(cfg, length, method_params, key)


@dataclasses.dataclass(frozen=True)
class PartNtkRope:
    """Frequencies of YaRN's predecessor: slow pairs are interpolated, faster ones scaled by NTK, the fastest kept."""

    factor: float

    def __call__(self, cfg, length, method_params, key):
        inv_freq_R, ramp = inv_freq(cfg), Ramp()
        slow_R = ramp(len(inv_freq_R), *correction_range(cfg, 1.25, 0.75))
        mixed_R = slow_R * inv_freq_R / self.factor + (1 - slow_R) * ntk_inv_freq(cfg, self.factor)
        fast_R = ramp(len(inv_freq_R), *correction_range(cfg, 16.0, 2.0))
        return fixed_rope(fast_R * mixed_R + (1 - fast_R) * inv_freq_R)


@identified
def yarn(
    factor: float = 8.0,  # extended length / trained length
    beta_fast: float = 32.0,  # pairs that turn more often within the trained length are kept
    beta_slow: float = 1.0,  # pairs that turn less often within the trained length are interpolated
    truncate: bool = True,  # round both ends of the ramp to whole pairs, as released
    attention_factor: float | None = None,  # multiplier of cosine and sine; None: 0.1 * ln(factor) + 1
    mscale: float | None = None,  # with mscale_all_dim: the multiplier as a ratio of two temperatures (DeepSeek)
    mscale_all_dim: float | None = None,  # divisor of that ratio
) -> Method:
    """YaRN."""
    if attention_factor is None and mscale and mscale_all_dim:
        attention_factor = temperature(factor, mscale) / temperature(factor, mscale_all_dim)
    return Method(rope=YarnRope(factor, beta_fast, beta_slow, truncate, attention_factor))


@identified
def dynamic_yarn(
    max_len: int | None = None,  # length up to which `factor` applies, in tokens; None: the trained length
    divisor: int | None = None,  # beyond max_len the factor is length / divisor; None: the trained length
    factor: float = 1.0,  # up to max_len: 1, or the factor that the model was trained with
) -> Method:
    """YaRN without training, whose factor follows the length.

    With max_len = divisor = max_position_embeddings it is what the code of arXiv:2409.12181 loads.
    """
    return Method(rope=DynamicYarnRope(max_len, divisor, factor), trainable=frozen)


@identified
def part_ntk(factor: float = 8.0) -> Method:
    """NTK-by-parts, YaRN's predecessor, as its authors released it."""
    return Method(rope=PartNtkRope(factor))
