"""ROUGE-L (Lin, 2004) as the package `rouge` 1.0.1 counts it, which LongBench and the study use.

It differs from Lin's: words are counted once, however often they occur, and f has 1e-8 in its denominator. The package
walks the table by recursion and fails on long sentences, which LongBench then scores 0; here they have their value.
"""

from longjax.evals.metrics import lcs
from longjax.evals.metrics.chinese import segment


def rouge_l(prediction: str, reference: str) -> float:
    """Return f of the words on longest common subsequences of all pairs of sentences."""
    predicted, expected = split_sentences(prediction), split_sentences(reference)
    if not predicted or not expected:
        return 0.0
    common = set().union(*(lcs.words(x, y) for x in expected for y in predicted))
    precision, recall = (len(common) / len(set().union(*side)) for side in (predicted, expected))
    return 2 * precision * recall / (precision + recall + 1e-8)


def split_sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence; one of blanks alone has an empty word, as in the package."""
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def rouge_zh(prediction: str, reference: str) -> float:
    """Return ROUGE-L of Chinese texts, which jieba segments. Raises ValueError without jieba."""
    return rouge_l(" ".join(segment(prediction)), " ".join(segment(reference)))
