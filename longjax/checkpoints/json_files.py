"""Reads the JSON files of a checkpoint, which may come from anyone."""

import pathlib
from collections.abc import Iterable

from longjax.files import read_object


def read_weight_map(index: pathlib.Path) -> dict[str, str]:
    """Reads which file beside an index holds each tensor. Raises ValueError if a file is not one of its folder."""
    weight_map = read_object(index, "copy or download it again").get("weight_map")
    if not isinstance(weight_map, dict):
        raise ValueError(f"{index} is damaged: it has no weight_map; copy or download it again")
    for name, file in weight_map.items():
        if not (
            isinstance(file, str) and file.isprintable() and file not in ("", ".", "..") and not {*"/\\"} & {*file}
        ):
            raise ValueError(f"{index} is damaged: {file!r}, which should hold {name}, is no file beside it")
    return weight_map


def first_names(names: Iterable[str], count: int = 10, separator: str = ", ") -> str:
    """Returns the first names in order, and how many more there are."""
    names = sorted(names)
    rest = [f"and {len(names) - count} more"] if len(names) > count else []
    return separator.join(names[:count] + rest)
