"""Llama 3.1's scaling: long waves are interpolated, short ones kept, those between are mixed by frequency.

Grattafiori et al. 2024, arXiv:2407.21783; in configurations of Hugging Face the rope type "llama3".
"""

import dataclasses

import numpy as np

from longjax.attention.rope import inv_freq
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope


@dataclasses.dataclass(frozen=True)
class Llama3Rope:
    factor: float
    low: float
    high: float

    def __call__(self, cfg, length, method_params, key):
        inv_freq_R = inv_freq(cfg)
        turns_R = cfg.trained_len * inv_freq_R / (2 * np.pi)  # over the trained context
        kept_R = np.clip((turns_R - self.low) / (self.high - self.low), 0.0, 1.0)
        return fixed_rope((1 - kept_R) * inv_freq_R / self.factor + kept_R * inv_freq_R)


@identified
def llama3(factor: float = 8.0, low_freq_factor: float = 1.0, high_freq_factor: float = 4.0) -> Method:
    if low_freq_factor >= high_freq_factor:
        raise ValueError(f"--low_freq_factor={low_freq_factor} must be below --high_freq_factor={high_freq_factor}")
    return Method(rope=Llama3Rope(factor, low_freq_factor, high_freq_factor))
