"""Pass key retrieval in the variants of several papers, and in that of our own study."""

from longjax.evals.passkey.grid import PasskeyGrid
from longjax.evals.passkey.scoring import score
from longjax.evals.passkey.tasks import PasskeyTest

__all__ = ["PasskeyGrid", "PasskeyTest", "score"]
