"""Pass keys as YaRN's authors test them: Peng et al. 2023, arXiv:2309.00071, eval/passkey.py.

The prompts are Landmark's. Lengths are in tokens, and the garbage has the largest multiple of 128 characters that fits.
"""

import dataclasses

from longjax.evals.passkey.landmark import Landmark


@dataclasses.dataclass(frozen=True)
class Yarn(Landmark):
    """Landmark's prompts by length in tokens."""

    name: str = "yarn"
    sizes: tuple[int, ...] = ()
    samples: int = 20
