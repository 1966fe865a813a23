"""Sliding-window attention: the last `window` tokens, the query included, and nothing else.

Jiang et al. 2023 (Mistral), arXiv:2310.06825, section 2: distance < window. It is LM-Infinite without its first
tokens, and so measures what those are worth.
"""

import dataclasses

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch
from longjax.attention.intervals import SlidingWindow
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class SlidingWindowAttention:
    """The last `window` tokens; None: as many as the trained length."""

    window: int | None

    def __call__(self, cfg, length):
        return BranchedAttention((Branch(SlidingWindow(self.window or cfg.trained_len)),))


@identified
def sliding_window(
    window: int | None = None,  # latest tokens that a query attends to, itself included; None: the trained length
) -> Method:
    """Sliding-window attention, without training."""
    return Method(attention=SlidingWindowAttention(window), trainable=frozen)
