"""ReRoPE: keys beyond a window are seen at its edge, or (leaky) at distances that grow `factor` times more slowly.

Su 2023, https://kexue.fm/archives/9706 and 9708, whose code (bojone/rerope) always scales queries by
max(1, ln(i + 1) / ln C): here `log_n`.
"""

import dataclasses

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Constant, Interpolated, LogN, PositionMap, UnitScale
from longjax.attention.intervals import BeyondWindow, SlidingWindow
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class ReRope:
    """A window at true distances, and all keys beyond it at `query_position` and `key_position`."""

    window: int
    query_position: PositionMap
    key_position: PositionMap
    log_n: bool

    def __call__(self, cfg, length):
        scale = LogN(cfg.trained_len) if self.log_n else UnitScale()
        far = Branch(BeyondWindow(self.window), self.query_position, self.key_position, scale)
        return BranchedAttention((Branch(SlidingWindow(self.window), query_scale=scale), far))


@identified
def rerope(
    window: int = 1024,  # tokens at their true distance, the query included
    log_n: bool = False,  # scale queries by max(1, ln(i + 1) / ln(trained length)), as its author's code always does
) -> Method:
    """ReRoPE, without training."""
    return Method(attention=ReRope(window, Constant(window), Constant(0.0), log_n), trainable=frozen)


@identified
def leaky_rerope(
    window: int = 1024,  # tokens at their true distance, the query included
    factor: float = 8.0,  # divisor of distances beyond the window
    log_n: bool = False,  # scale queries by max(1, ln(i + 1) / ln(trained length)), as its author's code always does
) -> Method:
    """Leaky ReRoPE, without training."""
    far = Interpolated(factor, window * (factor - 1))
    return Method(attention=ReRope(window, far, Interpolated(factor), log_n), trainable=frozen)
