"""ReRoPE: beyond a window every key stands at the window's edge, or creeps on `factor` times slower (leaky).

Su 2023, https://kexue.fm/archives/9706 and 9708, whose code (bojone/rerope) always scales queries by
max(1, ln(i + 1) / ln C): here `log_n`.
"""

import dataclasses

from longjax.attention.branched import Branched
from longjax.attention.branches import At, Branch, LogN, Place, Same, Squeezed
from longjax.attention.intervals import Far, Near
from longjax.methods.identity import identified
from longjax.methods.method import Method, frozen


@dataclasses.dataclass(frozen=True)
class ReRope:
    window: int
    query_at: Place
    key_at: Place
    log_n: bool

    def __call__(self, cfg, length):
        scale = LogN(cfg.trained_len) if self.log_n else Same()
        far = Branch(Far(self.window), self.query_at, self.key_at, scale)
        return Branched((Branch(Near(self.window), query_scale=scale), far))


@identified
def rerope(window: int = 1024, log_n: bool = False) -> Method:
    return Method(attention=ReRope(window, At(window), At(0.0), log_n), trainable=frozen)


@identified
def leaky_rerope(window: int = 1024, factor: float = 8.0, log_n: bool = False) -> Method:
    far = Squeezed(factor, window * (factor - 1))
    return Method(attention=ReRope(window, far, Squeezed(factor), log_n), trainable=frozen)
