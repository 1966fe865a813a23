"""Which length chooses the frequencies, when one model sees sequences of many lengths or one that grows.

We choose once a sequence: the length of prompt and continuation. Here are the ways of other systems: `Llama` takes
`length` in every call, so that any of them can be followed.
"""

from collections.abc import Callable, Iterable, Iterator

# (length of this call, length used by the call before, the model's trained length) -> length to use
LengthPolicy = Callable[[int, int, int], int]


def stateless(length: int, used: int, trained_len: int) -> int:
    return length


def sticky(length: int, used: int, trained_len: int) -> int:
    """The longest so far: transformers 4 and LCEG."""
    return max(length, used)


def sticky_with_reset(length: int, used: int, trained_len: int) -> int:
    """The longest so far, until a sequence is shorter than the trained length: transformers 5."""
    return trained_len if length < trained_len else max(length, used)


def lengths_used(growth: LengthPolicy, lengths: Iterable[int], trained_len: int) -> Iterator[int]:
    """-> what the calls of one model instance use, in order."""
    used = trained_len
    for length in lengths:
        used = growth(length, used, trained_len)
        yield used
