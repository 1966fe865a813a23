"""Results put together and shown anew, without measuring: of several runs, or after a table has changed.

python -m benchmarks.pages results/benchmarks/training.json                      its Markdown anew
python -m benchmarks.pages results/benchmarks/training.json later.json           with the cases of a later run
python -m benchmarks.pages results/benchmarks/*.json --bars=results/benchmarks/BARS.md     all bars in one table

Files of one benchmark and number of devices go into the first of them; a case measured again replaces the earlier one.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from benchmarks import attention, generation, methods, training
from benchmarks.page import Bar, table, write
from longjax import files

BARS = flags.DEFINE_string("bars", None, "Markdown file for the bars of all these results.")
PAGES = {page.name: page for page in (attention.PAGE, training.PAGE, generation.PAGE, methods.PAGE)}

Results = dict[str, Any]


def read(path: pathlib.Path) -> Results:
    """Read the results of a benchmark; raises ValueError if the file holds none."""
    try:
        results = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(results, dict) or results.get("benchmark") not in PAGES:
        raise ValueError(f"{path} holds no results of a benchmark: one of {', '.join(PAGES)}")
    return results


def merged(a: Results, b: Results) -> Results:
    """Return the rows of `a`, with cases that `b` has measured again replaced by those of `b`."""
    again = {row["case"] for row in b["rows"] if "error" not in row}
    earlier = [row for row in a["rows"] if row["case"] not in again]
    cases = {row["case"] for row in earlier}
    rows = earlier + [row for row in b["rows"] if row["case"] in again or row["case"] not in cases]
    return a | {"rows": rows, "command": f"{a['command']}; {b['command']}", "machine": a["machine"] | b["machine"]}


def grouped(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, Results]:
    """Return the results by the file that they go into."""
    groups: dict[tuple[str, str], tuple[pathlib.Path, Results]] = {}
    for path in paths:
        new = read(path)
        key = (new["benchmark"], new["machine"]["machine"])
        first, old = groups.get(key, (path, None))
        groups[key] = (first, merged(old, new) if old else new)
    return dict(groups.values())


def show(path: pathlib.Path, results: Results) -> list[list[str]]:
    """Write both files anew. Returns lines of the table of bars."""
    page, where = PAGES[results["benchmark"]], (results["command"], results["machine"])
    write(page, results["rows"], where, path.with_suffix(""))
    measured: list[Bar] = [bar for bar in page.bars(results["rows"]) if bar.values]
    return [[page.name, results["machine"]["machine"], *bar.line()] for bar in measured]


def main(argv: list[str]) -> None:
    """Write the pages of all results and the table of bars."""
    try:
        if len(argv) < 2:
            raise ValueError("no results named: python -m benchmarks.pages results/benchmarks/*.json")
        lines = [line for item in grouped([pathlib.Path(name) for name in argv[1:]]).items() for line in show(*item)]
        text = table(("benchmark", "machine", "what", "bar", "measured", "verdict"), lines)
        print(text)
        if BARS.value:
            files.write_atomically(pathlib.Path(BARS.value), f"# Bars\n\n{text}\n".encode())
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    app.run(main)
