"""The part of a report that is made of evaluation rows: tables, figures, sources, and what cannot be compared."""

import pathlib
from collections.abc import Sequence

from longjax import files
from longjax.evals.requests import Record
from longjax.report.evaluation import figures, provenance
from longjax.report.evaluation.benchmark_tables import tables
from longjax.report.evaluation.comparable import apart, compared
from longjax.report.evaluation.figures import agreement, score_points
from longjax.report.evaluation.table_1 import table_1
from longjax.report.evaluation.versus_published import published_table
from longjax.report.rows import Evaluations, evaluations
from longjax.report.tables import Table, markdown, terminal


def write_evaluation_page(
    rows: Sequence[Record], folder: pathlib.Path, trained: int | None, extended: int | None
) -> tuple[str, str]:
    """Writes tables/*.csv and figures/*.png. -> Table 1 for a terminal, and the page's Markdown."""
    all_of, differences = compared(evaluations(rows, trained, extended))
    first = table_1(all_of)
    pairs, reasons = published_table(all_of)
    every = [first, *([pairs] if pairs else []), *tables(all_of)]
    for table in every:
        files.write_atomically(folder / "tables" / f"{table.file}.csv", table.csv().encode())
    pictures = figures.draw(all_of, folder / "figures")
    warnings = [f"({mark}) {difference}" for mark, difference in differences.items()] + apart(all_of)
    page = [
        "# Evaluations",
        "Scores are shares in per cent, perplexity is perplexity; '-' was not run. Every number with its standard "
        "error and the count of its examples stands in `tables/*.csv`, there as shares in 0..1.",
        *warning_block(warnings),
        section(first, level=2),
        *([section(pairs, level=2)] if pairs else []),
        "\n".join(f"- {reason}" for reason in reasons),
        "## Figures",
        *(f"![{title}](figures/{name})\n\n{title}." for name, title in pictures.items()),
        *correlations(all_of),
        "## Tables",
        *(section(table, level=3) for table in every[2 if pairs else 1 :]),
        *where_from(all_of),
    ]
    return on_terminal(first, len(warnings)), "\n\n".join(part for part in page if part) + "\n"


def warning_block(warnings: Sequence[str]) -> list[str]:
    if not warnings:
        return []
    head = "> **Not everything here can be compared.** Letters in tables mark numbers of other settings than most have:"
    return ["\n>\n".join([head, *(f"> - {line}" for line in warnings)])]


def section(table: Table, level: int) -> str:
    notes = "\n".join(f"- {note}" for note in table.notes)
    link = f"[{table.file}.csv](tables/{table.file}.csv)"
    return f"{'#' * level} {table.title}\n\n{markdown(table.text())}\n\n{notes}\n\n{link}".replace("\n\n\n\n", "\n\n")


def correlations(all_of: Evaluations) -> list[str]:
    lines = [f"- {agreement(column, points)}".replace("\n", ": ") for column, points in score_points(all_of).items()]
    head = "Perplexity and scores: Spearman's rho, Pearson's r with the loss, 95 % intervals over resampled methods "
    return [head + "(-1: who has the lower perplexity has the higher score).", "\n".join(lines)] if lines else []


def where_from(all_of: Evaluations) -> list[str]:
    settings = provenance.settings(all_of)
    table = provenance.runs(all_of)
    parts = [
        "## Where the numbers come from",
        markdown(table, left=len(table[0])),
        "\n".join(provenance.methods(all_of)),
    ]
    return [*parts, markdown(settings, left=3)] if settings else parts


def on_terminal(table: Table, warnings: int, width: int = 120) -> str:
    """-> Table 1 in at most so many columns: long names end in dots."""
    text = table.text()
    room = width - len(terminal([row[1:] for row in text], left=1).splitlines()[0]) - 2
    rows = [[row[0] if len(row[0]) <= room else row[0][: room - 2] + "..", *row[1:]] for row in text]
    said = [table.title, "", terminal(rows)]
    return "\n".join(
        [*said, f"\n{warnings} difference{'s' * (warnings > 1)} of settings: see report.md"] if warnings else said
    )
