"""Which length chooses RoPE frequencies when one model sees sequences of many lengths, or one that grows.

longjax chooses once a sequence, by the length of prompt and continuation (`stateless`). The other policies reproduce
other systems: `Llama` takes `length` in every call, so that any of them can be followed.
"""

from collections.abc import Callable, Iterable, Iterator

# (length of this call, length used by the call before, the model's trained length) -> length to use
LengthPolicy = Callable[[int, int, int], int]


def stateless(length: int, used: int, trained_len: int) -> int:
    """Returns the sequence's own length."""
    return length


def sticky(length: int, used: int, trained_len: int) -> int:
    """Returns the longest length so far, as transformers 4 and LCEG do."""
    return max(length, used)


def sticky_with_reset(length: int, used: int, trained_len: int) -> int:
    """Returns the longest length since a sequence was shorter than the trained length, as transformers 5 does."""
    return trained_len if length < trained_len else max(length, used)


def lengths_used(policy: LengthPolicy, lengths: Iterable[int], trained_len: int) -> Iterator[int]:
    """Yields the lengths that the calls of one model instance use, in order."""
    used = trained_len
    for length in lengths:
        used = policy(length, used, trained_len)
        yield used
