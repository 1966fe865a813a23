"""LM-Infinite: attention to the last `window` tokens, and to the `first` ones at one constant distance. No training.

Han et al. 2023, arXiv:2308.16137. As the authors' code: the window counts the query, and a first token
farther away stands at distance `clamp` = window, not, as all keys of arXiv:2409.12181, at min(n - m, C).
"""

import dataclasses

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Constant
from longjax.attention.intervals import BeyondWindow, SlidingWindow
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class LmInfinite:
    """A window, and the first tokens at distance `clamp`."""

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
def lm_infinite(
    window: int | None = None,  # latest tokens that a query attends to, itself included; None: the trained length
    first: int = 10,  # tokens at the start of the sequence that all queries attend to
    clamp: int | None = None,  # distance of the first tokens, in tokens; None: the window (InfLLM: window - 1)
) -> Method:
    """LM-Infinite, without training."""
    return Method(attention=LmInfinite(window, first, clamp), trainable=frozen)
