"""A needle in a haystack: one sentence, several, or a number, hidden at some depth of a long text."""

from longjax.evals.needle.scoring import export_needle, score
from longjax.evals.needle.tasks import NeedleTest

__all__ = ["NeedleTest", "export_needle", "score"]
