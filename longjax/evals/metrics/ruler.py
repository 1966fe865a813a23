"""RULER's scores (arXiv 2404.06654): recall of strings, case ignored. What is said beside them costs nothing."""

import re
from collections.abc import Sequence


def cleaned(prediction: str) -> str:
    """-> without blanks at its ends, control characters as line ends."""
    return re.sub(r"[\x00-\x1f]", "\n", prediction).strip()


def string_match_all(prediction: str, references: Sequence[str]) -> float:
    """-> the share of the references that were said."""
    return sum(x.lower() in prediction.lower() for x in references) / len(references)


def string_match_part(prediction: str, references: Sequence[str]) -> float:
    """-> whether any of the references was said."""
    return float(any(x.lower() in prediction.lower() for x in references))
