"""Scores of a needle in a haystack: was it found, and how much of its wording was said."""

import re
from collections.abc import Sequence

STUDY_NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
STUDY_WORDS = "eat a sandwich and sit in dolores park on a sunny day."  # of it, by the study's plot (arXiv 2409.12181)


def recall(response: str, facts: Sequence[str]) -> float:
    """-> the share of the facts that were said, word for word; case and punctuation do not count."""
    said = _spaced(response)
    return sum(_spaced(fact) in said for fact in facts) / len(facts)


def word_overlap(response: str, wanted: str = STUDY_WORDS) -> float:
    """-> what the study's heat maps show: of all wanted words, how many different ones were said.

    "a" is wanted twice and counted once, so that a perfect answer has 11/12; "day." must have its full stop.
    """
    words = wanted.lower().split()
    return len(set(response.lower().split()) & set(words)) / len(words)


def _spaced(text: str) -> str:
    words = re.findall(r"\w+", text.casefold())
    return f" {' '.join(words)} "
