"""The results of a benchmark as a page: a table, the bars and their verdicts, failed cases."""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from longjax import files

Row = dict[str, Any]  # one measurement of one process; "error": why it failed
FEW = 5  # values of a bar: from there on the ends alone are shown


class Bar(NamedTuple):
    """A bound, and the measured `values` by name, the worst of which counts."""

    what: str
    bound: float
    values: dict[str, float]
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if not self.values:
            return "not measured"
        worst = max(self.values.values()) if self.at_most else min(self.values.values())
        return "reached" if (worst <= self.bound if self.at_most else worst >= self.bound) else "NOT REACHED"

    def line(self) -> list[str]:
        worst_first = sorted(self.values.items(), key=lambda item: item[1], reverse=self.at_most)
        values = [f"{value:.4g} ({where})" for where, value in worst_first]
        shown = ", ".join(values) if len(values) < FEW else f"{values[0]} to {values[-1]}"
        return [self.what, f"{'<=' if self.at_most else '>='} {self.bound:g}", shown, self.verdict]


def settings(row: Row) -> str:
    """Return the settings of a row in words."""
    return " ".join(f"{name}={value}" for name, value in row.items() if name not in ("case", "program", "error"))


class Page(NamedTuple):
    """How the rows of a benchmark are shown.

    Attributes:
      about: what is measured, in a few sentences.
      lines: the table under `header`.
      name_of: a row, in tables where it is one of many.

    """

    name: str
    title: str
    about: str
    header: Sequence[str]
    lines: Callable[[list[Row]], list[list[str]]]
    bars: Callable[[list[Row]], list[Bar]]
    name_of: Callable[[Row], str] = settings


def markdown(page: Page, rows: list[Row], command: str, machine: dict[str, str]) -> str:
    """Return the page as Markdown."""
    missing = [[row["program"], settings(row), row["error"]] for row in rows if "error" in row]
    parts = [
        f"# {page.title}", page.about, f"`{command}` on " + ", ".join(f"{k} {v}" for k, v in machine.items()),
        table(page.header, page.lines(rows)),
    ]  # fmt: skip
    bars = [bar.line() for bar in page.bars(rows)]
    parts += ["## Bars", table(("what", "bar", "measured", "verdict"), bars)] if bars else []
    parts += ["## Where the time goes", *where] if (where := times(page, rows)) else []
    parts += ["## Not measured", table(("program", "case", "why"), missing)] if missing else []
    return "\n\n".join(parts) + "\n"


def as_json(page: Page, rows: list[Row], command: str, machine: dict[str, str]) -> Row:
    """Return the results as JSON data."""
    bars = [bar._asdict() | {"verdict": bar.verdict} for bar in page.bars(rows)]
    return {"benchmark": page.name, "command": command, "machine": machine, "bars": bars, "rows": rows}


def write(page: Page, rows: list[Row], where: tuple[str, dict[str, str]], out: pathlib.Path | None) -> str:
    """Write <out>.json and <out>.md, if there is an `out`.

    Args:
      page: how the rows are shown.
      rows: what was measured so far.
      where: command and machine.
      out: path without suffix; None: nothing is written.

    Returns:
      the Markdown.

    """
    text = markdown(page, rows, *where)
    if out:
        content = json.dumps(as_json(page, rows, *where), indent=1) + "\n"
        files.write_atomically(out.with_name(out.name + ".json"), content.encode())
        files.write_atomically(out.with_name(out.name + ".md"), text.encode())
    return text


def times(page: Page, rows: list[Row]) -> list[str]:
    """Return the table of kernel times of the rows that were profiled."""
    profiled = [row for row in rows if row.get("by_kind_ms")]
    if not profiled:
        return []
    kinds = list(dict.fromkeys(kind for row in profiled for kind in row["by_kind_ms"]))
    lines = [[page.name_of(row), *(number(row["by_kind_ms"].get(kind), 1) for kind in kinds)] for row in profiled]
    return [
        "Milliseconds of the first GPU's kernels, by kind; those of several streams overlap.",
        table(("case", *kinds), lines),
    ]


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned as plain text, too."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = [header, ["-" * width for width in widths], *lines]
    return "\n".join("| " + " | ".join(f"{x:<{w}}" for x, w in zip(row, widths, strict=True)) + " |" for row in rows)


def the(rows: list[Row], /, **about: Any) -> Row:
    """Return the row with these fields; {}: not measured."""
    return next((row for row in rows if "error" not in row and about.items() <= row.items()), {})


def ratio(a: float | None, b: float | None) -> float | None:
    """Return a / b; None: one of them is not known."""
    return a / b if a and b else None


def number(x: float | None, digits: int = 2) -> str:
    """Format a number; "": not known."""
    return "" if x is None else f"{x:.{digits}f}"


def thousands(length: int) -> str:
    """Format a length: 32K."""
    return f"{length // 1024}K" if length % 1024 == 0 else str(length)
