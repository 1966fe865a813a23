"""Llama 3.1's scaling: long wavelengths are interpolated, short ones kept, those between are mixed by frequency.

Grattafiori et al. 2024, arXiv:2407.21783; in configurations of Hugging Face the rope type "llama3".
"""

import dataclasses

import numpy as np

from longjax.attention.rope import inv_freq
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope


@dataclasses.dataclass(frozen=True)
class Llama3Rope:
    """Frequencies interpolated by `factor` below `low` turns over the trained context, kept above `high` turns."""

    factor: float
    low: float
    high: float

    def __call__(self, cfg, length, method_params, key):
        inv_freq_R = inv_freq(cfg)
        turns_R = cfg.trained_len * inv_freq_R / (2 * np.pi)  # over the trained context
        kept_R = np.clip((turns_R - self.low) / (self.high - self.low), 0.0, 1.0)
        return fixed_rope((1 - kept_R) * inv_freq_R / self.factor + kept_R * inv_freq_R)


@identified
def llama3(
    factor: float = 8.0,  # extended length / trained length
    low_freq_factor: float = 1.0,  # pairs that turn less often over the trained context are interpolated
    high_freq_factor: float = 4.0,  # pairs that turn more often over the trained context are kept
) -> Method:
    """Llama 3.1's scaling by wavelength."""
    if low_freq_factor >= high_freq_factor:
        raise ValueError(f"--low_freq_factor={low_freq_factor} must be below --high_freq_factor={high_freq_factor}")
    return Method(rope=Llama3Rope(factor, low_freq_factor, high_freq_factor))
