"""The result of a golden check of one array."""

from typing import NamedTuple


class Result(NamedTuple):
    family: str
    case: str
    error: float
    tolerance: float
    note: str = ""
