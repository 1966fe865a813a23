"""Position Interpolation: squeeze the long sequence into the places that the model knows.

Chen et al. 2023, arXiv:2306.15595; equation 8 of arXiv:2409.12181.
"""

import dataclasses

from longjax.attention.rope import inv_freq
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope


@dataclasses.dataclass(frozen=True)
class PiRope:
    factor: float

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(inv_freq(cfg) / self.factor)


@dataclasses.dataclass(frozen=True)
class DynamicPiRope:
    """The factor that the sequence needs, and no more."""

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(inv_freq(cfg) / max(length / cfg.trained_len, 1.0))


@identified
def pi(factor: float = 8.0) -> Method:
    return Method(rope=PiRope(factor))


@identified
def dynamic_pi() -> Method:
    """factor = length / trained_len beyond trained_len, as in jquesnelle/yarn."""
    return Method(rope=DynamicPiRope())
