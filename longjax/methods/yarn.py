"""YaRN: keep the pairs that turn often within the trained context, interpolate the slow ones, and sharpen attention.

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
    """The (fractional) pair that turns so often within the trained context."""
    radians = turns * 2 * math.pi
    return cfg.rotary_dim * math.log(cfg.trained_len / radians) / (2 * math.log(cfg.rope_base))


def correction_range(cfg: ModelConfig, fast: float, slow: float, truncate: bool = True) -> tuple[float, float]:
    """-> (lo, hi): pairs up to lo are kept, from hi on interpolated."""
    lo, hi = pair_turning(cfg, fast), pair_turning(cfg, slow)
    if truncate:
        lo, hi = math.floor(lo), math.ceil(hi)
    return max(lo, 0), min(hi, cfg.rotary_dim - 1)  # not rotary_dim / 2 - 1: so do all implementations


@dataclasses.dataclass(frozen=True)
class Ramp:
    """-> ramp_R from 0 at lo to 1 at hi, in the given precision (bfloat16 only for audits)."""

    dtype: str = "float64"

    def __call__(self, pairs: int, lo: float, hi: float) -> np.ndarray:
        hi = hi + 0.001 if lo == hi else hi
        dtype = jnp.dtype(self.dtype)
        rise_R = (np.arange(pairs).astype(dtype) - np.asarray(lo, dtype)).astype(dtype) / np.asarray(hi - lo, dtype)
        return np.clip(rise_R.astype(np.float64), 0.0, 1.0)


def temperature(factor: float, weight: float = 1.0) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


@dataclasses.dataclass(frozen=True)
class YarnRope:
    """`scale` None: temperature(factor)."""

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
    """Beyond `max_len`, factor = length / `divisor`; up to there `factor`, if the model was trained with it.

    None for `max_len` and `divisor` is the trained length.
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
    """YaRN's predecessor: interpolation, then NTK scaling, then no scaling, as pairs turn faster."""

    factor: float

    def __call__(self, cfg, length, method_params, key):
        inv_freq_R, ramp = inv_freq(cfg), Ramp()
        slow_R = ramp(len(inv_freq_R), *correction_range(cfg, 1.25, 0.75))
        mixed_R = slow_R * inv_freq_R / self.factor + (1 - slow_R) * ntk_inv_freq(cfg, self.factor)
        fast_R = ramp(len(inv_freq_R), *correction_range(cfg, 16.0, 2.0))
        return fixed_rope(fast_R * mixed_R + (1 - fast_R) * inv_freq_R)


@identified
def yarn(
    factor: float = 8.0,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
    attention_factor: float | None = None,
    mscale: float | None = None,
    mscale_all_dim: float | None = None,
) -> Method:
    """The last three change the temperature as in Hugging Face: given outright, or a ratio of two (DeepSeek)."""
    if attention_factor is None and mscale and mscale_all_dim:
        attention_factor = temperature(factor, mscale) / temperature(factor, mscale_all_dim)
    return Method(rope=YarnRope(factor, beta_fast, beta_slow, truncate, attention_factor))


@identified
def dynamic_yarn(max_len: int | None = None, divisor: int | None = None, factor: float = 1.0) -> Method:
    """The factor that the sequence needs. With max_len = divisor = max_position_embeddings it is LCEG's file."""
    return Method(rope=DynamicYarnRope(max_len, divisor, factor), trainable=frozen)


@identified
def part_ntk(factor: float = 8.0) -> Method:
    return Method(rope=PartNtkRope(factor))
