"""LongRoPE: one factor for each rotary pair, from one list up to the trained length and from another beyond.

Ding et al. 2024, arXiv:2402.13753. The factors come from the authors' search, which is not part of this project.
"""

import dataclasses
import json
import math
import pathlib

import numpy as np

from longjax.attention.rope import inv_freq
from longjax.methods.identity import with_identity
from longjax.methods.method import Method, fixed_rope


@dataclasses.dataclass(frozen=True)
class LongRope:
    """Frequencies divided by a list of factors; `scale` None: sqrt(1 + ln factor / ln trained_len)."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    factor: float
    scale: float | None = None

    def __call__(self, cfg, length, method_params, key):
        factors = self.long if length > cfg.trained_len else self.short
        inv_freq_R = inv_freq(cfg)
        if len(factors) != len(inv_freq_R):
            raise ValueError(f"--short_factor and --long_factor need {len(inv_freq_R)} numbers, not {len(factors)}")
        scale = self.scale
        if scale is None:
            scale = math.sqrt(1 + math.log(self.factor) / math.log(cfg.trained_len)) if self.factor > 1 else 1.0
        return fixed_rope(inv_freq_R / np.asarray(factors), scale)


def parse_factors(text: str, flag: str) -> tuple[float, ...]:
    """Returns the factors of "1.0,1.1,..." or of a JSON list, whose path ends in ".json". Errors name --`flag`."""
    try:
        numbers = json.loads(pathlib.Path(text).read_text() if text.endswith(".json") else f"[{text}]")
        return tuple(float(x) for x in numbers)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"--{flag}={text}: neither numbers with commas nor a JSON list of numbers") from error


def longrope(
    short_factor: str = "",  # divisors of the frequencies, one a pair: "1.0,1.1,..." or the path of a JSON list
    long_factor: str = "",  # the same for sequences beyond the trained length
    factor: float = 8.0,  # extended length / trained length; sets the attention factor alone
    attention_factor: float | None = None,  # of cosine and sine; None: sqrt(1 + ln(factor) / ln(trained length))
) -> Method:
    """LongRoPE with given factors. They, not the path of their file, are part of the method's identity."""
    short, long = parse_factors(short_factor, "short_factor"), parse_factors(long_factor, "long_factor")
    lists = {"short_factor": ",".join(map(repr, short)), "long_factor": ",".join(map(repr, long))}  # not their files
    settings = lists | {"factor": factor, "attention_factor": attention_factor}
    return with_identity(Method(rope=LongRope(short, long, factor, attention_factor)), "longrope", settings)
