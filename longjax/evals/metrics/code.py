"""LongBench's score of a line of code (arXiv:2308.14508): its similarity in whole percent.

The published numbers are difflib's, which rates strings of 200 characters and more as less similar than they are;
where python-Levenshtein is installed, the benchmark's own code gives others.
"""

import difflib

COMMENTS = ("`", "#", "//")


def code_sim(prediction: str, reference: str) -> float:
    """Return the similarity of the first line that is no comment."""
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in COMMENTS)), "")
    return similarity(line, reference)


def similarity(x: str, y: str) -> float:
    """Return difflib's ratio, rounded to whole percent; 0 if one text is empty and the other is not."""
    if x == y:
        return 1.0
    return round(100 * difflib.SequenceMatcher(None, x, y).ratio()) / 100 if x and y else 0.0
