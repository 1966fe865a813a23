"""LM-Infinite: the last `window` tokens, and the `first` ones at one constant distance. No training.

Han et al. 2023, arXiv:2308.16137. As the authors' code: the window counts the query, and a first token
farther away stands at distance `clamp` = window, not at the min(n - m, C) of arXiv:2409.12181 for all keys.
"""

import dataclasses

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Constant
from longjax.attention.intervals import BeyondWindow, SlidingWindow
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class LmInfinite:
    window: int | None
    first: int
    clamp: int | None

    def __call__(self, cfg, length):
        window = self.window or cfg.trained_len
        near, clamp = Branch(SlidingWindow(window)), window if self.clamp is None else self.clamp
        return BranchedAttention(
            (near, Branch(BeyondWindow(window, self.first), Constant(clamp), Constant(0))) if self.first else (near,)
        )


@identified
def lm_infinite(window: int | None = None, first: int = 10, clamp: int | None = None) -> Method:
    """No `window` means the model's trained length, no `clamp` the window (InfLLM takes window - 1)."""
    return Method(attention=LmInfinite(window, first, clamp), trainable=frozen)
