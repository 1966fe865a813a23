"""One golden case of approximate attention, and how it is compared."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from golden_checks.common import Result

FAMILY = "approx"
ATTENTION, LOGITS, GRADIENT = 2e-5, 1e-4, 5e-5  # the tolerances of the folder's README
Computed = Iterator[tuple[str, str, Any]]  # array's name, how it was computed, value


class Case(NamedTuple):
    path: Path
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> "Case":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "meta"}
            return cls(path, json.loads(str(file["meta"])), arrays)


def failure(path: Path, note: str) -> Result:
    return Result(FAMILY, path.stem, float("nan"), 0.0, note)


def compare(case: Case, computed: Computed, inputs: set[str]) -> Iterator[Result]:
    claimed = set(inputs)
    for name, how, value in computed:
        claimed.add(name)
        if name not in case.arrays:
            yield failure(case.path, f"missing array {name}")
            continue
        theirs, ours = case.arrays[name], np.asarray(value)
        same = theirs.shape == ours.shape
        error = float(np.max(np.abs(theirs - ours), initial=0.0)) if same else float("nan")
        note = how if same else f"{how} shape {ours.shape}, not {theirs.shape}"
        yield Result(FAMILY, f"{case.path.stem}/{name}", error, tolerance(name), note)
    for name in sorted(set(case.arrays) - claimed):
        yield failure(case.path, f"nothing computes {name}")


def tolerance(name: str) -> float:
    if name.startswith(("grad.", "dq", "dk", "dv")):
        return GRADIENT
    return LOGITS if name.startswith(("logits", "loss")) else ATTENTION
