"""Ranges of numeric settings, checked where a dataclass of settings is made, before anything starts with them."""

from collections.abc import Iterable
from typing import Any

POSITIVE = 2.0**-126  # the smallest normal float32: smaller numbers are zero on the device
INFINITY = 2.0**128  # the first number that float32 rounds to infinity
BELOW_ONE = 1 - 2.0**-25  # larger numbers are 1 in float32


def check_range(settings: Any, names: Iterable[str], least: float, below: float = INFINITY) -> None:
    """Checks that fields of `settings` are None or numbers from `least` up to, but without, `below`.

    Raises ValueError, naming the field as a flag, for other numbers and for NaN.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not least <= value < below:
            bounds = "above 0" if least == POSITIVE else f"at least {least:g}"
            limit = "finite" if below == INFINITY else f"below {below:g}"
            raise ValueError(f"--{name}={value} must be {bounds} and {limit}")
