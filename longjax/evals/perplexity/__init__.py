"""Perplexity by the protocols of the study (arXiv:2409.12181) and of others, and loss by position."""

from longjax.evals.perplexity.scoring import score
from longjax.evals.perplexity.tasks import PerplexityTest
from longjax.evals.perplexity.text import EvalText, from_store, read_texts

__all__ = ["EvalText", "PerplexityTest", "from_store", "read_texts", "score"]
