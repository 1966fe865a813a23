"""LongBench's score of a line of code (arXiv 2308.14508): how similar it is, in whole percent.

The published numbers are difflib's, of which it takes longer strings (200 characters and more) to be less similar than
they are; where python-Levenshtein is installed, the benchmark's own code gives others.
"""

import difflib

COMMENTS = ("`", "#", "//")


def code_sim(prediction: str, reference: str) -> float:
    """-> of the first line that is no comment."""
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in COMMENTS)), "")
    return similar(line, reference)


def similar(x: str, y: str) -> float:
    if x == y:
        return 1.0
    return round(100 * difflib.SequenceMatcher(None, x, y).ratio()) / 100 if x and y else 0.0
