"""Longest common subsequences, a row of the table in one integer.

Bit j - 1 of row i says that the table grows between columns j - 1 and j: T[i, j] = T[i, j - 1] + 1. The next row
follows by an addition whose carries do the maximum (Hyyro, "Bit-parallel LCS-length computation revisited", 2004).
"""

from collections.abc import Sequence


def steps(x: Sequence[str], y: Sequence[str]) -> list[int]:
    """-> where row i = 0, 1 .. len(x) of the table of x against y grows."""
    whole, places = (1 << len(y)) - 1, {}
    for j, word in enumerate(y):
        places[word] = places.get(word, 0) | 1 << j
    flat, rows = whole, [0]
    for word in x:
        match = flat & places.get(word, 0)
        flat = (flat + match | flat - match) & whole
        rows.append(whole ^ flat)
    return rows


def length(x: Sequence[str], y: Sequence[str]) -> int:
    return steps(x, y)[-1].bit_count()


def words(x: Sequence[str], y: Sequence[str]) -> set[str]:
    """-> of one longest common subsequence: that which a walk from the end finds which goes up only if it must.

    At a mismatch it goes up iff T[i - 1, j] > T[i, j - 1], and that is where row i grows.
    """
    rows, found = steps(x, y), set()
    i, j = len(x), len(y)
    while i and j:
        if x[i - 1] == y[j - 1]:
            found.add(x[i - 1])
            i, j = i - 1, j - 1
        elif rows[i] >> (j - 1) & 1:
            i -= 1
        else:
            j -= 1
    return found
