"""LongBench's scores of answers that are a number (arXiv 2308.14508): how many paragraphs, or which."""

import re

PARAGRAPH, PARAGRAPH_ZH = r"Paragraph (\d+)", "\u6bb5\u843d(\\d+)"


def count(prediction: str, reference: str) -> float:
    """-> the share of all numbers said that are the right one, digit by digit: "007" is not "7"."""
    said = re.findall(r"\d+", prediction)
    return said.count(reference) / len(said) if said else 0.0


def retrieval(prediction: str, reference: str) -> float:
    return count(prediction, number_share(PARAGRAPH, reference))


def retrieval_zh(prediction: str, reference: str) -> float:
    return count(prediction, number_share(PARAGRAPH_ZH, reference))


def number_share(pattern: str, reference: str) -> str:
    """-> which paragraph it was."""
    found = re.search(pattern, reference)
    if found is None:
        raise ValueError(f"the answer {reference!r} names no paragraph: it must be like {pattern}")
    return found[1]
