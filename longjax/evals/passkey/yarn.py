"""Pass keys as YaRN's authors test them: Peng et al. 2023, arXiv:2309.00071, eval/passkey.py.

The prompts are Landmark's. Lengths are of tokens, and the garbage has as many times 128 characters as fit.
"""

import dataclasses

from longjax.evals.passkey.landmark import Landmark


@dataclasses.dataclass(frozen=True)
class Yarn(Landmark):
    name: str = "yarn"
    sizes: tuple[int, ...] = ()
    samples: int = 20
