"""Tables as Markdown, as aligned text for a terminal and as CSV."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from longjax.report.rows import Number, ReportSubject


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its head, the factor of its numbers and their decimals (none from 1000 on)."""

    head: str
    scale: float = 100.0
    decimals: int = 1

    def text(self, number: Number | None) -> str:
        """Return a cell: '-' if not measured, a star if windows without a finite loss were left out."""
        if number is None:
            return "-"
        value = None if number.value is None else self.scale * number.value
        decimals = self.decimals if value is None or abs(value) < 1000 else 0
        cell = "nan" if value is None else f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.2g}"
        if number.half_range is not None:
            half = self.scale * number.half_range
            cell += f" +-{half:.{decimals}f}" if half < 1e6 else f" +-{half:.2g}"
        star, mark = "*" if number.nan else "", f" ({number.mark})" if number.mark else ""
        return cell + star + mark


@dataclasses.dataclass(frozen=True)
class Table:
    """A line of numbers for each subject.

    Attributes:
      file: name of the CSV file without suffix.
      lines: subjects with their numbers in the order of `columns`; a column of kinds is shown if any has one.
      notes: sentences below the table.
      head: what the lines are.

    """

    file: str
    title: str
    columns: tuple[Column, ...]
    lines: tuple[tuple[ReportSubject, tuple[Number | None, ...]], ...]
    notes: tuple[str, ...] = ()
    head: str = "method"

    def text(self) -> list[list[str]]:
        """Return the cells, the head first; without standard errors."""
        kinds = any(who.kind for who, _ in self.lines)
        body = []
        for who, numbers in self.lines:
            cells = [column.text(number) for column, number in zip(self.columns, numbers, strict=True)]
            body.append([who.label, *([who.kind] if kinds else []), *cells])
        return [[self.head, *(["kind"] if kinds else []), *(c.head for c in self.columns)], *body]

    def csv(self) -> str:
        """Return numbers in full, each with its standard error and count; shares in 0..1; empty: not measured."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        heads = (c.head + suffix for c in self.columns for suffix in ("", " stderr", " n", " note"))
        writer.writerow([self.head, "weights", "kind", "run", *heads])
        for who, numbers in self.lines:
            names = [who.method, who.weights, who.kind, who.run]
            writer.writerow([*names, *(cell for number in numbers for cell in _csv_cells(number))])
        return out.getvalue()

    def section(self, level: int) -> str:
        """Return a section of Markdown: title, table, notes and a link to the CSV file."""
        notes = "\n".join(f"- {note}" for note in self.notes)
        link = f"[{self.file}.csv](tables/{self.file}.csv)"
        return "\n\n".join(part for part in (f"{'#' * level} {self.title}", markdown(self.text()), notes, link) if part)


def _csv_cells(number: Number | None) -> list[str]:
    if number is None:
        return ["", "", "", ""]
    value, stderr = ("" if x is None else repr(float(x)) for x in (number.value, number.stderr))
    notes = [number.mark] if number.mark else []
    notes += [] if number.half_range is None else [f"half range over seeds {number.half_range!r}"]
    notes += [f"{number.nan} windows without a finite loss"] if number.nan else []
    return [value or "nan", stderr, str(number.n) if number.n else "", "; ".join(notes)]


def markdown(table: Sequence[Sequence[str]], left: int = 2) -> str:
    """Return a Markdown table; the first `left` columns are aligned to the left, all others to the right."""
    marks = [":--" if i < left else "--:" for i in range(len(table[0]))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [table[0], marks, *table[1:]])


def terminal(table: Sequence[Sequence[str]], left: int = 2) -> str:
    """Return aligned columns for a terminal: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:]])
