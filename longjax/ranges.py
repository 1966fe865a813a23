"""Ranges of numeric settings, checked where a dataclass of settings is made, before anything starts with them."""

import os
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


def check_memory(setting: str, size: float, memory: float | None = None) -> None:
    """Checks that arrays that are about to be made can fit into memory.

    Args:
      setting: that made them so large, like "--batch_size=9".
      size: of the arrays, in bytes.
      memory: in bytes; None: that of this machine.

    Raises:
      ValueError: they cannot.

    """
    memory = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        needed, there = (f"{x / 2**30:,.0f} GiB" for x in (size, memory))
        raise ValueError(f"{setting} needs {needed} of memory, and there are {there}: lower it")
