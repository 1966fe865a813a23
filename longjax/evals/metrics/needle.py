"""Scores of a needle in a haystack: recall of its facts, and overlap with its words."""

import re
from collections.abc import Sequence

STUDY_NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
STUDY_WORDS = "eat a sandwich and sit in dolores park on a sunny day."  # of it, by the study's plot (arXiv 2409.12181)


def recall(response: str, facts: Sequence[str]) -> float:
    """Return the share of the facts that the response holds word for word; case and punctuation do not count."""
    words = _spaced(response)
    return sum(_spaced(fact) in words for fact in facts) / len(facts)


def word_overlap(response: str, reference: str = STUDY_WORDS) -> float:
    """Return the score of the study's heat maps: different common words, divided by all words of the reference.

    "a" is in the study's reference twice and counted once, so that a perfect answer has 11/12; "day." must have its
    full stop.
    """
    words = reference.lower().split()
    return len(set(response.lower().split()) & set(words)) / len(words)


def _spaced(text: str) -> str:
    words = re.findall(r"\w+", text.casefold())
    return f" {' '.join(words)} "
