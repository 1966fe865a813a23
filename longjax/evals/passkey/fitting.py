"""The largest prompt that fits into so many tokens, found in few tries."""

from collections.abc import Callable


def largest_fitting(tokens: Callable[[int], int], room: int, step: int, probe: int, most: int) -> int:
    """-> the largest multiple of `step`, at most `most`, whose tokens fit into `room`; -1: none does.

    Args:
      tokens: of a prompt of some size; they grow nearly evenly with it.
      room: at most so many.
      step: of sizes.
      probe: a size that tells how fast tokens grow; a multiple of `step`.
      most: the largest size there is.

    """
    least, probe = tokens(0), min(probe, most)
    if least > room:
        return -1
    rate = max(1, tokens(probe) - least) / max(1, probe)
    size = min(int((room - least) / rate), most) // step * step
    while tokens(size) > room:
        size -= step
    while size + step <= most and tokens(size + step) <= room:
        size += step
    return size
