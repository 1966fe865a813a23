"""ROUGE-L (Lin, 2004) as the package `rouge` 1.0.1 counts it, which LongBench and the study use.

It differs from Lin's: words are counted once, however often they occur, and f has 1e-8 in its denominator. The package
walks the table by recursion and gives up on long sentences, which LongBench then scores 0; here they have their value.
"""

from longjax.evals.metrics import lcs
from longjax.evals.metrics.chinese import segment


def rouge_l(prediction: str, reference: str) -> float:
    """-> f of the words on longest common subsequences of all pairs of sentences."""
    said, wanted = split_sentences(prediction), split_sentences(reference)
    if not said or not wanted:
        return 0.0
    common = set().union(*(lcs.words(x, y) for x in wanted for y in said))
    precision, recall = (len(common) / len(set().union(*side)) for side in (said, wanted))
    return 2 * precision * recall / (precision + recall + 1e-8)


def split_sentences(text: str) -> list[list[str]]:
    """-> words; one of blanks alone has an empty word, as the package splits at each single space."""
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def rouge_zh(prediction: str, reference: str) -> float:
    """-> the same of Chinese text, whose words a dictionary finds."""
    return rouge_l(" ".join(segment(prediction)), " ".join(segment(reference)))
