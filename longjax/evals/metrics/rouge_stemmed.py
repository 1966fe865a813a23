"""ROUGE-1 and ROUGE-L (Lin, 2004) of stems, with the numbers of the package `rouge_score` 0.1.2.

The package needs nltk, which would have to be installed wherever a needle is scored.
"""

import re
from collections import Counter
from collections.abc import Sequence

from longjax.evals.metrics import lcs
from longjax.evals.metrics.porter import stem


def rouge_1(prediction: str, reference: str) -> float:
    """Return the F-measure of single stems, which count as often as they occur on both sides."""
    predicted, expected = stems(prediction), stems(reference)
    return f_measure((Counter(predicted) & Counter(expected)).total(), predicted, expected)


def rouge_l(prediction: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of stems."""
    predicted, expected = stems(prediction), stems(reference)
    return f_measure(lcs.length(expected, predicted), predicted, expected)


def f_measure(common: int, prediction: Sequence[str], reference: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall of `common` words."""
    return 2 * common / (len(prediction) + len(reference)) if common else 0.0


def stems(text: str) -> list[str]:
    """Return the stems of a text's words; those of up to three letters stay as they are."""
    return [stem(word) if len(word) > 3 else word for word in re.findall("[a-z0-9]+", text.lower())]
