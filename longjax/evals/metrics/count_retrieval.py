"""LongBench's scores of answers that are a number (arXiv:2308.14508): of paragraphs, or of one paragraph."""

import re

PARAGRAPH, PARAGRAPH_ZH = r"Paragraph (\d+)", "\u6bb5\u843d(\\d+)"


def count(prediction: str, reference: str) -> float:
    """Return the share of the numbers in the prediction that equal the reference as text: "007" is not "7"."""
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(reference) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, reference: str) -> float:
    """Return `count` of the number in a reference like "Paragraph 7"."""
    return count(prediction, paragraph_number(PARAGRAPH, reference))


def retrieval_zh(prediction: str, reference: str) -> float:
    """Return `count` of the number in a Chinese reference."""
    return count(prediction, paragraph_number(PARAGRAPH_ZH, reference))


def paragraph_number(pattern: str, reference: str) -> str:
    """Return the number of the paragraph that a reference names. Raises ValueError if it names none."""
    match = re.search(pattern, reference)
    if match is None:
        raise ValueError(f"the answer {reference!r} names no paragraph: it must be like {pattern}")
    return match[1]
