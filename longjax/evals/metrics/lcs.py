"""Longest common subsequences, a row of the table in one integer.

Bit j - 1 of row i says that the table grows between columns j - 1 and j: T[i, j] = T[i, j - 1] + 1. The next row
follows by an addition whose carries do the maximum (Hyyro, "Bit-parallel LCS-length computation revisited", 2004).
"""

from collections.abc import Sequence


def growth_bits(x: Sequence[str], y: Sequence[str]) -> list[int]:
    """Return for each row i = 0 .. len(x) of the table of x against y the bits of the columns at which it grows."""
    whole, bits = (1 << len(y)) - 1, {}
    for j, word in enumerate(y):
        bits[word] = bits.get(word, 0) | 1 << j
    flat, rows = whole, [0]
    for word in x:
        match = flat & bits.get(word, 0)
        flat = (flat + match | flat - match) & whole
        rows.append(whole ^ flat)
    return rows


def length(x: Sequence[str], y: Sequence[str]) -> int:
    """Return the length of the longest common subsequences."""
    return growth_bits(x, y)[-1].bit_count()


def words(x: Sequence[str], y: Sequence[str]) -> set[str]:
    """Return the words of the longest common subsequence that a walk from the end of the table finds.

    At a mismatch the walk goes up iff T[i - 1, j] > T[i, j - 1], that is iff row i grows there.
    """
    rows, common = growth_bits(x, y), set()
    i, j = len(x), len(y)
    while i and j:
        if x[i - 1] == y[j - 1]:
            common.add(x[i - 1])
            i, j = i - 1, j - 1
        elif rows[i] >> (j - 1) & 1:
            i -= 1
        else:
            j -= 1
    return common
