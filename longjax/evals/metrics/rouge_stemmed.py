"""ROUGE-1 and ROUGE-L (Lin, 2004) of stems, as the package `rouge_score` 0.1.2 counts them."""

import re
from collections import Counter
from collections.abc import Sequence

from longjax.evals.metrics import lcs
from longjax.evals.metrics.porter import stem


def rouge_1(prediction: str, reference: str) -> float:
    said, wanted = stems(prediction), stems(reference)
    return f_measure((Counter(said) & Counter(wanted)).total(), said, wanted)


def rouge_l(prediction: str, reference: str) -> float:
    said, wanted = stems(prediction), stems(reference)
    return f_measure(lcs.length(wanted, said), said, wanted)


def f_measure(common: int, prediction: Sequence[str], reference: Sequence[str]) -> float:
    return 2 * common / (len(prediction) + len(reference)) if common else 0.0


def stems(text: str) -> list[str]:
    """-> of words of more than three letters their stem; of others they themselves."""
    return [stem(word) if len(word) > 3 else word for word in re.findall("[a-z0-9]+", text.lower())]
