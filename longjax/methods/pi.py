"""Position Interpolation: all frequencies are divided, so that long sequences have the positions of short ones.

Chen et al. 2023, arXiv:2306.15595; equation 8 of arXiv:2409.12181.
"""

import dataclasses

from longjax.attention.rope import inv_freq
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope


@dataclasses.dataclass(frozen=True)
class PiRope:
    """All frequencies divided by `factor`."""

    factor: float

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(inv_freq(cfg) / self.factor)


@dataclasses.dataclass(frozen=True)
class DynamicPiRope:
    """All frequencies divided by length / trained length, beyond the trained length."""

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(inv_freq(cfg) / max(length / cfg.trained_len, 1.0))


@identified
def pi(
    factor: float = 8.0,  # divisor of all frequencies: extended length / trained length
) -> Method:
    """Position Interpolation."""
    return Method(rope=PiRope(factor))


@identified
def dynamic_pi() -> Method:
    """Position Interpolation whose factor is length / trained length beyond the latter, as in jquesnelle/yarn."""
    return Method(rope=DynamicPiRope())
