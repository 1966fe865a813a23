"""NTK-aware scaling: a larger RoPE base, which divides the slowest frequency by alpha and keeps the fastest.

bloc97 2023; equation 9 of arXiv:2409.12181. As the released code, alpha grows with the sequence:
alpha(L) = s * max(C', L) / C - (s - 1), where C is the trained length and C' the length trained for.
"""

import dataclasses

import numpy as np

from longjax.attention.rope import inv_freq
from longjax.config import ModelConfig
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope, frozen


def ntk_base(cfg: ModelConfig, alpha: float) -> float:
    """Returns the RoPE base whose slowest frequency is 1 / alpha of the model's."""
    return cfg.rope_base * alpha ** (cfg.rotary_dim / (cfg.rotary_dim - 2))


def ntk_inv_freq(cfg: ModelConfig, alpha: float) -> np.ndarray:
    """Returns inv_freq_R of that base: radians a token, float64."""
    return inv_freq(cfg, ntk_base(cfg, alpha))


@dataclasses.dataclass(frozen=True)
class FixedNtkRope:
    """NTK with one alpha at every length."""

    alpha: float

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(ntk_inv_freq(cfg, self.alpha))


@dataclasses.dataclass(frozen=True)
class NtkRope:
    """Dynamic NTK. `reach` is C', None: C; `scale` is s, None: reach / (2 C)."""

    scale: float | None = None
    reach: int | None = None

    def alpha(self, cfg: ModelConfig, length: int) -> float:
        """Returns alpha for sequences of `length` tokens."""
        reach = self.reach or cfg.trained_len
        scale = self.scale or reach / (2 * cfg.trained_len)
        return scale * max(reach, length) / cfg.trained_len - (scale - 1)

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(ntk_inv_freq(cfg, self.alpha(cfg, length)))


@identified
def ntk_static(
    alpha: float = 8.0,  # divisor of the slowest frequency, at every length
) -> Method:
    """NTK with one alpha at every length; equation 9 has alpha = C' / C."""
    return Method(rope=FixedNtkRope(alpha))


@identified
def ntk_frozen(
    scale: float = 2.0,  # s of alpha = s * length / trained length - (s - 1), beyond the trained length
) -> Method:
    """Dynamic NTK without training (NTK-Frozen), Hugging Face's rope type "dynamic"."""
    return Method(rope=NtkRope(scale), trainable=frozen)


@identified
def ntk_32k(
    reach: int = 32_768,  # length trained for, in tokens; alpha grows beyond it
    scale: float | None = None,  # s of s * length / trained length - (s - 1); None: reach / (2 * trained length)
) -> Method:
    """NTK-32K, trained at `reach` tokens: with LLaMA-2 alpha is 29 up to there and grows beyond, to 61 at 64K.

    reach=81920 is Fu et al., arXiv:2402.10171.
    """
    return Method(rope=NtkRope(scale, reach))


@identified
def ntk_64k(
    alpha: float = 57.0,  # divisor of the slowest frequency, at every length
) -> Method:
    """NTK-64K by tables 7 and 8 of arXiv:2409.12181, which give alpha 57 at every length."""
    return ntk_static(alpha)


@identified
def ntk_64k_code(
    reach: int = 65_536,  # length trained for, in tokens; alpha grows beyond it
    scale: float | None = None,  # s of s * length / trained length - (s - 1); None: reach / (2 * trained length)
) -> Method:
    """NTK-64K as the released code computes it: with LLaMA-2 alpha is 121 up to 64K and grows beyond."""
    return ntk_32k(reach, scale)
