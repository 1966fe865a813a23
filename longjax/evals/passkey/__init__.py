"""Pass keys in the variants of several papers, and in that of our own study."""

from longjax.evals.passkey.questions import PasskeyTest
from longjax.evals.passkey.scoring import score
from longjax.evals.passkey.study import Study

__all__ = ["PasskeyTest", "Study", "score"]
