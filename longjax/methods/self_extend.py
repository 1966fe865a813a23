"""Self-Extend: near tokens are seen at their true distance, far tokens at a coarse one. No training.

Jin et al. 2024, arXiv:2401.01325. As its code, not its equation 15: for a key at distance >= window, the key's position
is floor(j / group) and the query's floor(i / group) + window - floor(window / group).
"""

import dataclasses
from typing import Literal

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Grouped, LogN, UnitScale
from longjax.attention.intervals import BeyondWindow, SlidingWindow
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class SelfExtend:
    """A window at true distances, and all keys beyond it at grouped positions."""

    window: int
    group: int
    shift: float
    log_base: float = 0.0

    def __call__(self, cfg, length):
        scale = LogN(self.log_base) if self.log_base else UnitScale()
        far = Branch(BeyondWindow(self.window), Grouped(self.group, self.shift), Grouped(self.group), scale)
        return BranchedAttention((Branch(SlidingWindow(self.window), query_scale=scale), far))


@dataclasses.dataclass(frozen=True)
class SelfExtendAuto:
    """Self-Extend with the smallest group whose largest distance is at most alpha * trained length."""

    window: int
    alpha: float

    def __call__(self, cfg, length):
        if length <= cfg.trained_len:
            return BranchedAttention()
        room = cfg.trained_len * self.alpha - self.window
        for group in range(1, self.window + 1):
            if self.window % group == 0 and length - self.window <= room * group:
                return SelfExtend(self.window, group, self.window - self.window // group)(cfg, length)
        raise ValueError(f"--alpha={self.alpha} leaves no room for {length} tokens beyond --window={self.window}")


@identified
def self_extend(
    window: int = 1024,  # tokens at their true distance, the query included
    group: int = 64,  # far tokens that share a position; it must divide the window
    log_base: float = 0.0,  # above 0, scale queries by max(1, ln(i + 1) / ln(log_base))
    shift: Literal["floor", "true_division"] = "floor",  # of far queries: window - window // group, or unrounded
) -> Method:
    """Self-Extend, without training.

    shift="true_division" is what the authors' LLaMA code does in its prefill; it differs only where `group` does not
    divide `window`.
    """
    if shift == "true_division":
        return Method(attention=SelfExtend(window, group, window - window / group, log_base), trainable=frozen)
    if window % group:
        raise ValueError(f"--window={window} must be a multiple of --group={group}: else the two ranges do not meet")
    return Method(attention=SelfExtend(window, group, window - window // group, log_base), trainable=frozen)


@identified
def self_extend_auto(
    window: int = 1024,  # tokens at their true distance, the query included
    alpha: float = 0.5,  # largest distance, as a share of the trained length
) -> Method:
    """Self-Extend with the smallest group that the length allows; plain attention up to the trained length."""
    return Method(attention=SelfExtendAuto(window, alpha), trainable=frozen)
