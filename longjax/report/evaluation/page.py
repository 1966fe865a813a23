"""The part of a report that is made from evaluation rows: tables, figures, provenance, and what cannot be compared."""

import pathlib
from collections.abc import Sequence

from longjax import files
from longjax.evals.requests import Record
from longjax.report.evaluation import provenance
from longjax.report.evaluation.benchmark_tables import tables
from longjax.report.evaluation.comparable import mark_differences, partial_suites
from longjax.report.evaluation.figures import agreement, score_points, write_figures
from longjax.report.evaluation.table_1 import table_1
from longjax.report.evaluation.versus_published import published_table
from longjax.report.rows import Evaluations, evaluations
from longjax.report.tables import Table, markdown, terminal


def write_evaluation_page(
    rows: Sequence[Record], folder: pathlib.Path, trained: int | None, extended: int | None
) -> tuple[str, str]:
    """Write tables/*.csv and figures/*.png.

    Args:
      rows: of all runs, at least one.
      folder: where tables/ and figures/ go.
      trained: the context of the base model in tokens; None: not known.
      extended: the length at which methods were trained; None: not known.

    Returns:
      Table 1 for a terminal, and the page's Markdown.

    """
    evals, differences = mark_differences(evaluations(rows, trained, extended))
    first = table_1(evals)
    pairs, reasons = published_table(evals)
    head = [first, pairs] if pairs else [first]
    rest = tables(evals)
    for table in (*head, *rest):
        files.write_atomically(folder / "tables" / f"{table.file}.csv", table.csv().encode())
    titles = write_figures(evals, folder / "figures")
    warnings = [f"({mark}) {difference}" for mark, difference in differences.items()] + partial_suites(evals)
    page = [
        "# Evaluations",
        "Scores are shares in per cent, perplexity is perplexity; '-' was not run. Every number with its standard "
        "error and the count of its examples stands in `tables/*.csv`, there as shares in 0..1.",
        _warning_block(warnings),
        *(table.section(level=2) for table in head),
        "\n".join(f"- {reason}" for reason in reasons),
        "## Figures",
        *(f"![{title}](figures/{name})\n\n{title}." for name, title in titles.items()),
        _correlations(evals),
        "## Tables",
        *(table.section(level=3) for table in rest),
        *_provenance(evals),
    ]
    return on_terminal(first, len(warnings)), "\n\n".join(part for part in page if part) + "\n"


def _warning_block(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    head = "> **Not everything here can be compared.** Letters in tables mark numbers of other settings than most have:"
    return "\n>\n".join([head, *(f"> - {line}" for line in warnings)])


def _correlations(evals: Evaluations) -> str:
    lines = [f"- {agreement(column, points)}".replace("\n", ": ") for column, points in score_points(evals).items()]
    head = "Perplexity and scores: Spearman's rho, Pearson's r with the loss, 95 % intervals over resampled methods "
    return "\n".join([f"{head}(-1: the lower the perplexity, the higher the score).\n", *lines]) if lines else ""


def _provenance(evals: Evaluations) -> list[str]:
    settings, runs = provenance.settings_table(evals), provenance.run_table(evals)
    parts = ["## Provenance", markdown(runs, left=len(runs[0])), "\n".join(provenance.method_lines(evals))]
    return [*parts, markdown(settings, left=3)] if settings else parts


def on_terminal(table: Table, warnings: int, width: int = 120) -> str:
    """Return Table 1 in at most `width` columns, long names cut, with the number of warnings below."""
    text = table.text()
    room = width - len(terminal([row[1:] for row in text], left=1).splitlines()[0]) - 2
    rows = [[row[0] if len(row[0]) <= room else row[0][: room - 2] + "..", *row[1:]] for row in text]
    lines = [table.title, "", terminal(rows)]
    if warnings:
        lines.append(f"\n{warnings} difference{'s' if warnings > 1 else ''} of settings: see report.md")
    return "\n".join(lines)
