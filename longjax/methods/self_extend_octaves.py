"""Self-Extend with a logarithmic map: each octave of distance beyond the window is compressed twice as much.

Jin et al. 2024 (arXiv:2401.01325) divide all far distances by one number; buckets of distance that widen like these are
known from T5's bias (Raffel et al. 2020, arXiv:1910.10683). A key at distance d with w 2^(n-1) <= d < w 2^n is seen at
distance d / 2^n + n w / 2, where w is the window and n = 1, 2, ...: octaves meet without a jump, and each takes half a
window of distances.
"""

import dataclasses

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Interpolated
from longjax.attention.intervals import DistanceRange, SlidingWindow
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class Octaves:
    """A window at true distances, and one branch for each octave beyond it."""

    window: int

    def __call__(self, cfg, length):
        branches = [Branch(SlidingWindow(self.window))]
        near, factor = self.window, 2.0
        while near < length:
            offset = len(branches) * self.window / 2 * factor
            branches.append(Branch(DistanceRange(near, 2 * near), Interpolated(factor, offset), Interpolated(factor)))
            near, factor = 2 * near, 2 * factor
        return BranchedAttention(tuple(branches))


@identified
def self_extend_octaves(
    window: int = 1024,  # tokens at their true distance, the query included
) -> Method:
    """Self-Extend by octaves, without training.

    The largest distance of L tokens is window * (1 + log2(L / window) / 2): three windows at a length of 16 windows.
    """
    if window < 1:
        raise ValueError(f"--window={window} must be at least 1: the tokens at their true distance")
    return Method(attention=Octaves(window), trainable=frozen)
