"""RULER's scores (arXiv:2404.06654): recall of strings, case ignored; other text does not lower them."""

import re
from collections.abc import Sequence


def cleaned(prediction: str) -> str:
    """Return a prediction with control characters as line ends, and without blanks at its ends."""
    return re.sub(r"[\x00-\x1f]", "\n", prediction).strip()


def string_match_all(prediction: str, references: Sequence[str]) -> float:
    """Return the share of the references that the prediction holds."""
    return sum(x.lower() in prediction.lower() for x in references) / len(references)


def string_match_part(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if the prediction holds any of the references, else 0."""
    return float(any(x.lower() in prediction.lower() for x in references))
