"""How tables look in Markdown, on a terminal and as CSV."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from longjax.report.rows import Number, ReportSubject


@dataclasses.dataclass(frozen=True)
class Column:
    """A head; what numbers are multiplied by before they are shown, and their decimals; 5 digits at most."""

    head: str
    scale: float = 100.0
    decimals: int = 1

    def text(self, number: Number | None) -> str:
        if number is None:
            return "-"
        value = None if number.value is None else self.scale * number.value
        decimals = self.decimals if value is None or abs(value) < 1000 else 0
        shown = "nan" if value is None else f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.2g}"
        if number.half_range is not None:
            half = self.scale * number.half_range
            shown += f" +-{half:.{decimals}f}" if half < 1e6 else f" +-{half:.2g}"
        return shown + "*" * bool(number.nan) + (f" ({number.mark})" if number.mark else "")


@dataclasses.dataclass(frozen=True)
class Table:
    """A line of numbers for everyone who was evaluated; `file` is its name without suffix.

    `head` says what the lines are, where they are no methods; lines without kinds have no column for them.
    """

    file: str
    title: str
    columns: tuple[Column, ...]
    lines: tuple[tuple[ReportSubject, tuple[Number | None, ...]], ...]
    notes: tuple[str, ...] = ()
    head: str = "method"

    def text(self) -> list[list[str]]:
        """-> cells, the head first; without numbers' errors."""
        kinds = any(who.kind for who, _ in self.lines)
        body = [
            [who.label, *[who.kind] * kinds, *(c.text(x) for c, x in zip(self.columns, numbers, strict=True))]
            for who, numbers in self.lines
        ]
        return [[self.head, *["kind"] * kinds, *(c.head for c in self.columns)], *body]

    def csv(self) -> str:
        """-> numbers in full, each with its standard error and count; shares in 0..1; empty: not measured."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        parts = (c.head + part for c in self.columns for part in ("", " stderr", " n", " note"))
        writer.writerow([self.head, "weights", "kind", "run", *parts])
        for who, numbers in self.lines:
            names = [who.method, who.weights, who.kind, who.run]
            writer.writerow([*names, *(cell for number in numbers for cell in full(number))])
        return out.getvalue()


def full(number: Number | None) -> list[str]:
    if number is None:
        return ["", "", "", ""]
    value, stderr = ("" if x is None else repr(float(x)) for x in (number.value, number.stderr))
    notes = [number.mark] * bool(number.mark)
    notes += [] if number.half_range is None else [f"half range over seeds {number.half_range!r}"]
    notes += [f"{number.nan} windows without a finite loss"] * bool(number.nan)
    return [value or "nan", stderr, str(number.n) if number.n else "", "; ".join(notes)]


def markdown(table: Sequence[Sequence[str]], left: int = 2) -> str:
    """-> names, the first `left` columns, to the left, numbers to the right."""
    marks = [":--" if i < left else "--:" for i in range(len(table[0]))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [table[0], marks, *table[1:]])


def terminal(table: Sequence[Sequence[str]], left: int = 2) -> str:
    """-> aligned columns: names left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:]])
