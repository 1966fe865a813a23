"""Search for the largest prompt that fits into a number of tokens, in few tries."""

from collections.abc import Callable


def largest_fitting(tokens: Callable[[int], int], room: int, step: int, probe: int, max_size: int) -> int:
    """Find the largest prompt size whose tokens fit.

    Args:
      tokens: size -> number of tokens of a prompt of that size, which grows nearly evenly with it.
      room: limit of the tokens.
      step: of sizes.
      probe: a size from which the growth of tokens is estimated; a multiple of `step`.
      max_size: the largest size there is.

    Returns:
      The largest multiple of `step`, at most `max_size`, whose tokens fit into `room`; -1: none does.

    """
    fewest, probe = tokens(0), min(probe, max_size)
    if fewest > room:
        return -1
    rate = max(1, tokens(probe) - fewest) / max(1, probe)
    size = min(int((room - fewest) / rate), max_size) // step * step
    while tokens(size) > room:
        size -= step
    while size + step <= max_size and tokens(size + step) <= room:
        size += step
    return size
