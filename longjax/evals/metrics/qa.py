"""F1 of words, as SQuAD (arXiv:1606.05250) and LongBench (arXiv:2308.14508) count it."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from longjax.evals.metrics.chinese import segment

PUNCTUATION = frozenset(string.punctuation)
CHINESE_RANGES = (  # what LongBench deletes from Chinese words; the opening half of some brackets is not in its list
    (0xFF01, 0xFF0D), (0xFF0F, 0xFF0F), (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF64), (0x3001, 0x3003),
    (0x300B, 0x3011), (0x3014, 0x301F), (0x3030, 0x3030), (0x303E, 0x303F), (0x2013, 0x2014), (0x2018, 0x2019),
    (0x201B, 0x201F), (0x2026, 0x2027), (0xFE4F, 0xFE4F),
)  # fmt: skip
CHINESE = PUNCTUATION | {chr(i) for first, last in CHINESE_RANGES for i in range(first, last + 1)}


def qa_f1(prediction: str, reference: str) -> float:
    """Return F1 of the normalized words of English texts."""
    return f1(normalize(prediction).split(), normalize(reference).split())


def qa_f1_zh(prediction: str, reference: str) -> float:
    """Return F1 of the words of Chinese texts. Raises ValueError without jieba."""
    return f1_zh(segment(prediction), segment(reference))


def f1_zh(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """Return F1 of Chinese words that are segmented already."""
    predicted, expected = ([word for x in side if (word := normalize_zh(x))] for side in (prediction, reference))
    return f1(predicted, expected)


def f1(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall; words count as often as they occur on both sides."""
    common = (Counter(prediction) & Counter(reference)).total()
    return 2 * common / (len(prediction) + len(reference)) if common else 0.0


def normalize(text: str) -> str:
    """Return text in lower case, without punctuation and articles, with single spaces."""
    bare = "".join(c for c in text.lower() if c not in PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def normalize_zh(word: str) -> str:
    """Return a Chinese word in lower case, without punctuation and white space."""
    return "".join("".join(c for c in word.lower() if c not in CHINESE).split())
