"""Checks longjax against folders of golden vectors: python -m tools.check_golden DIR [DIR...].

Prints one line for each family and failure. Exit code 0: all checks pass; 1: one fails; 2: nothing to check.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the checks are a part of the tests

from golden_checks import (
    approx,
    convert,
    eval_metrics,
    eval_needle,
    eval_ppl,
    eval_ruler,
    eval_truncation,
    eval_windows,
    exact,
)
from golden_checks.common import Result


class Kind(NamedTuple):
    """A format of folders: the test for it, and its checks."""

    fits: Callable[[Path], bool]
    results: Callable[[Path], Iterator[Result]]


def has_meta(folder: Path) -> bool:
    """Whether a .npz file of the folder has an array `meta`."""
    for path in folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            if "meta" in file.files:
                return True
    return False


ARRAYS = (
    Kind(convert.is_convert, convert.results),
    Kind(exact.is_exact, exact.results),
    Kind(has_meta, approx.results),
)
LINES = (
    Kind(eval_metrics.is_metrics, eval_metrics.results),
    Kind(eval_truncation.is_truncation, eval_truncation.results),
    Kind(eval_needle.is_needle, eval_needle.needle_results),
    Kind(eval_needle.is_passkey, eval_needle.passkey_results),
    Kind(eval_ruler.is_ruler, eval_ruler.results),
    Kind(eval_ppl.is_ppl, eval_ppl.results),
    Kind(eval_windows.is_windows, eval_windows.results),
)


def passed(result: Result) -> bool:
    """Whether the error is within the tolerance."""
    return result.error <= result.tolerance  # false for NaN


def ratio(result: Result) -> float:
    """Return the error relative to the tolerance."""
    return 0.0 if result.error == 0 else result.error / max(result.tolerance, 1e-300)


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield a line for each family: the largest error, and the worst error relative to its tolerance."""
    families: dict[str, list[Result]] = {}
    for result in results:
        families.setdefault(result.family, []).append(result)
    width = max(map(len, families), default=0)
    yield f"{'family':{width}} {'cases':>6} {'values':>7} {'max error':>10} {'worst':>10} {'allowed':>10}"
    for family, members in families.items():
        worst, count = max(members, key=ratio), len({member.case for member in members})
        largest = max(member.error for member in members)
        verdict = "pass" if all(map(passed, members)) else "FAIL"
        numbers = f"{largest:10.2e} {worst.error:10.2e} {worst.tolerance:10.2e}"
        yield f"{family:{width}} {count:6} {len(members):7} {numbers}  {verdict}"


def check(folder: Path) -> list[Result]:
    """Check a folder, or the folders in it. Raises ValueError if there is nothing to check."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    folders = [folder] if kinds(folder) else sorted(path for path in folder.iterdir() if path.is_dir())
    results = [result for path in folders for kind in kinds(path) for result in kind.results(path)]
    if not results:
        raise ValueError(f"{folder}: no cases of a known format")
    return results


def kinds(folder: Path) -> list[Kind]:
    """Return the formats of a folder's files: one of arrays, or any of JSON lines."""
    arrays = next((kind for kind in ARRAYS if kind.fits(folder)), None)
    return [arrays] if arrays else [kind for kind in LINES if kind.fits(folder)]


def main(folders: list[Path]) -> int:
    """Check folders, print the results, and return the exit code."""
    failed = False
    for folder in folders:
        try:
            results = check(folder)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"{folder}: {len({(r.family, r.case) for r in results})} cases")
        print("\n".join(table(results)))
        for result in results:
            if not passed(result):
                print(f"FAIL {result.family}/{result.case}: {result.note}: {result.error:.3g} > {result.tolerance:.3g}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    sys.exit(main(parser.parse_args().folders))
