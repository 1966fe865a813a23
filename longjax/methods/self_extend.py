"""Self-Extend: near tokens at their true distance, far tokens at a coarse one. No training.

Jin et al. 2024, arXiv:2401.01325. As its code, not its equation 15: a key at distance >= window stands at
floor(j / group), the query at floor(i / group) + window - floor(window / group).
"""

import dataclasses

from longjax.branched import Branched
from longjax.branches import Branch, Far, Grouped, Near
from longjax.methods.base import Method


@dataclasses.dataclass(frozen=True)
class SelfExtend:
    window: int
    group: int

    def __call__(self, cfg, length):
        far = Grouped(self.group, self.window - self.window // self.group)
        return Branched((Branch(Near(self.window)), Branch(Far(self.window), far, Grouped(self.group))))


def self_extend(window: int = 1024, group: int = 64) -> Method:
    if window % group:
        raise ValueError(f"--window={window} must be a multiple of --group={group}: else the two ranges do not meet")
    return Method(attention=SelfExtend(window, group))
