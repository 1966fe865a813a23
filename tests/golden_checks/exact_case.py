"""One case of a folder of exact golden vectors, with a record of which of its values were checked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from golden_checks.common import Result

LABELS = {"case_id", "arrays", "family", "kind", "peer", "note"}  # say what a case is, not what must come out


class Check(NamedTuple):
    """A value and its reference; `tolerance` broadcasts against them."""

    name: str
    got: Any
    want: Any
    tolerance: Any

    def result(self, family: str, case: str) -> Result:
        """Return the element with the largest error relative to its tolerance."""
        got, want = np.asarray(self.got, np.float64), np.asarray(self.want, np.float64)
        if got.shape != want.shape:
            return failure(family, case, f"{self.name}: shape {got.shape}, not {want.shape}")
        if not (np.isfinite(got).all() and np.isfinite(want).all()):
            return failure(family, case, f"{self.name}: not finite")
        error, tolerance = np.broadcast_arrays(np.abs(got - want), np.asarray(self.tolerance, np.float64))
        if not error.size:
            return failure(family, case, f"{self.name}: empty")
        worst = np.argmax(error.ravel() / np.maximum(tolerance.ravel(), 1e-300))
        return Result(family, case, float(error.flat[worst]), float(tolerance.flat[worst]), self.name)


def failure(family: str, case: str, note: str) -> Result:
    return Result(family, case, float("inf"), 0.0, note)


class Case:
    """Fields and arrays by name; those that no check has read are an error at the end."""

    def __init__(self, fields: dict[str, Any], arrays: dict[str, np.ndarray], folder: Path, stem: str):
        self.fields, self.arrays, self.folder, self.stem = fields, arrays, folder, stem
        self.read = set(LABELS)

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return self.fields.get(name, default)

    def array(self, name: str) -> np.ndarray:
        self.read.add(name)
        return self.arrays[name]

    def unread(self) -> list[str]:
        return sorted((set(self.fields) | set(self.arrays)) - self.read)

    def damaged(self) -> Iterator[str]:
        """Yield where the arrays differ from their description in the case."""
        for name, (dtype, shape) in self.fields["arrays"].items():
            x = self.arrays.get(name)
            if x is None:
                yield f"no array {name}"
            elif [str(x.dtype), list(x.shape)] != [dtype, shape]:
                yield f"{name} is {x.dtype}{list(x.shape)}, not {dtype}{shape}"
            elif not np.isfinite(x).all():
                yield f"{name}: not finite"
        yield from (f"array {name} is not announced" for name in set(self.arrays) - set(self.fields["arrays"]))


def listed(path: Path) -> list[dict[str, Any]]:
    listing = json.loads(path.read_text())
    return listing["cases"] if isinstance(listing, dict) and isinstance(listing.get("cases"), list) else []


def cases(path: Path) -> Iterator[Case]:
    """Yield the cases of one .json and its .npz. Raises ValueError if the two do not match."""
    listing = json.loads(path.read_text())
    unknown = set(listing) - {"cases", "file", "n_cases"}
    if unknown or listing.get("n_cases", len(listing["cases"])) != len(listing["cases"]):
        raise ValueError(f"unknown entries {sorted(unknown)}, or n_cases is wrong")
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        arrays = dict(file)
    for fields in listing["cases"]:
        prefix = fields["case_id"] + "/"
        own = {key.removeprefix(prefix): arrays.pop(key) for key in list(arrays) if key.startswith(prefix)}
        yield Case(fields, own, path.parent, path.stem)
    if arrays:
        raise ValueError(f"arrays of no case: {', '.join(sorted(arrays)[:3])}")


def find(folder: Path, case_id: str) -> Case:
    """Return the case of that name in any file of the folder."""
    for path in sorted(folder.glob("*.json")):
        for fields in listed(path):
            if fields["case_id"] == case_id:
                with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
                    arrays = {name: file[f"{case_id}/{name}"] for name in fields["arrays"]}
                return Case(fields, arrays, folder, path.stem)
    raise ValueError(f"no case {case_id}")
