"""LongBench's score of classification (arXiv:2308.14508)."""

from collections.abc import Sequence


def classification(prediction: str, reference: str, classes: Sequence[str]) -> float:
    """Return 1 / (number of classes named) if the right one is among them, else 0.

    Names that are part of the right one's name do not count. The benchmark removes those from the list that it
    iterates over, so that the one after each is left in.
    """
    named = [name for name in classes if name in prediction]
    i = 0
    while i < len(named):
        if named[i] in reference and named[i] != reference:
            named.remove(named[i])
        i += 1
    return 1 / len(named) if reference in named else 0.0
