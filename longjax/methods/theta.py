"""Another RoPE base, at every length.

ABF: Xiong et al. 2023, arXiv:2309.16039 (base 500000). ProLong: Gao et al. 2024, arXiv:2410.02660, trains
Llama-3 with 8e6 at 64K and 1.28e8 at 512K.
"""

import dataclasses

from longjax.attention.rope import inv_freq
from longjax.methods.identity import identified
from longjax.methods.method import Method, fixed_rope


@dataclasses.dataclass(frozen=True)
class ThetaRope:
    """Frequencies of the RoPE base `base`."""

    base: float

    def __call__(self, cfg, length, method_params, key):
        return fixed_rope(inv_freq(cfg, self.base))


@identified
def theta(
    base: float = 500_000.0,  # RoPE base
) -> Method:
    """Another RoPE base at every length (ABF)."""
    return Method(rope=ThetaRope(base))
