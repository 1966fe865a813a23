"""The part of report.md on a study of one run: its table, findings and figures."""

import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from longjax import files, made_by_0_1
from longjax.evals.requests import Record
from longjax.report.evaluation import figures
from longjax.report.evaluation.benchmark_tables import perplexity_tables
from longjax.report.measures import needle, passkey, ppl
from longjax.report.plotting.scatter import Point
from longjax.report.plotting.style import draw
from longjax.report.plotting.training_curves import training_curves, with_metrics
from longjax.report.rows import Evaluations, Number, ReportSubject, evaluations
from longjax.report.single_run.findings import findings, study_lengths
from longjax.report.tables import Column, Table, terminal

FIGURES = {  # the study has one suite of each
    "perplexity.png": figures.perplexity_figures, "positions.png": figures.position_figures,
    "passkey.png": figures.passkey_figures, "needle.png": figures.needle_figures,
}  # fmt: skip
ABOUT = (
    "PPL: perplexity of held-out text; key%, ndl%: shares of pass keys and of needles (numbers) retrieved, means over "
    "depths; seconds of training and evaluation. Trained methods saw the same rows in the same order. A star marks "
    "windows without a finite loss. `tables/*.csv` has every number with its standard error."
)


def write_single_run_page(folder: pathlib.Path, rows: Sequence[Record], out: pathlib.Path) -> tuple[str, str]:
    """Write the study's figures and tables/*.csv into `out`.

    Args:
      folder: of the study, with settings.json.
      rows: the study's own (`is_of_study`), at least one.
      out: where figures and tables go.

    Returns:
      the study's table for a terminal, and the page's Markdown.

    """
    settings = settings_of(folder)
    lengths = settings["trained_len"], settings["extended_len"]
    every, shown = (evaluations(chosen, *lengths) for chosen in (rows, preferred_weights(rows)))
    tables = [study_table(shown), *perplexity_tables(shown), *weight_tables(every)]
    for table in tables:
        files.write_atomically(out / "tables" / f"{table.file}.csv", table.csv().encode())
    titles = _write_figures(shown, out) | _write_training_curves(folder, out)
    parts = [
        "# Context extension from {} to {} tokens: a controlled study".format(*lengths),
        tables[0].section(level=2),
        "## Findings",
        "\n".join(f"- {line}" for line in findings(shown)),
        "## Figures",
        *(f"![{title}]({name})\n\n{title}." for name, title in titles.items()),
        *(table.section(level=2) for table in tables[1:]),
        "## Settings",
        "```json\n" + json.dumps(settings, indent=2, sort_keys=True) + "\n```",
    ]
    return terminal(tables[0].text()), "\n\n".join(parts) + "\n"


def preferred_weights(rows: Sequence[Record]) -> list[Record]:
    """Return the rows of one kind of weights a method: averaged ones (EMA) where there are any."""
    averaged = {r["method"] for r in rows if r["weights"] == "ema"}
    return [r for r in rows if r["weights"] == "ema" or r["method"] not in averaged]


def study_table(evals: Evaluations) -> Table:
    """Return perplexity, pass keys and, if any were run, needles at the trained, extended and doubled length."""
    lengths = study_lengths(evals)
    columns = [(Column(f"PPL {n}", 1.0, 2), ppl(n)) for n in lengths]
    columns += [(Column(f"key% {n}", 100.0, 0), passkey(n)) for n in lengths]
    if any(r["benchmark"] == "needle" for rows in evals.rows.values() for r in rows):
        columns += [(Column(f"ndl% {n}", 100.0, 0), needle(n, "number")) for n in lengths]
    lines = [
        (who, (*(measure.number(rows) for _, measure in columns), Number(_seconds(rows))))
        for who, rows in evals.rows.items()
    ]
    heads = (*(column for column, _ in columns), Column("seconds", 1.0, 0))
    return Table("study", "All methods", heads, tuple(lines), (ABOUT,))


def _seconds(rows: Sequence[Record]) -> float:
    """-> of training, if any, and all evaluations."""
    return rows[0].get("train_seconds", 0.0) + sum(r["seconds"] for r in rows)


def weight_tables(evals: Evaluations) -> list[Table]:
    """Return the table of raw beside averaged weights, for methods that have both; []: none has."""
    _, extended, _ = study_lengths(evals)
    measures = (ppl(extended), passkey(extended))
    by_method: dict[str, dict[str, list[Record]]] = {}
    for who, rows in evals.rows.items():
        by_method.setdefault(who.method, {})[who.weights] = rows
    lines = []
    for method, by_weights in by_method.items():
        if {"raw", "ema"} <= by_weights.keys():
            numbers = tuple(m.number(by_weights[weights]) for m in measures for weights in ("raw", "ema"))
            lines.append((ReportSubject(method, "", "", "", method), numbers))
    columns = [Column(f"{weights} PPL {extended}", 1.0, 2) for weights in ("raw", "EMA")]
    columns += [Column(f"{weights} key%", 100.0, 0) for weights in ("raw", "EMA")]
    return [Table("weights", "Raw and averaged weights", tuple(columns), tuple(lines))] if lines else []


def settings_of(folder: pathlib.Path) -> dict[str, Any]:
    """Read settings.json of a study.

    Returns:
      the settings, with at least trained_len and extended_len; {}: the folder is of no study.

    Raises:
      ValueError: the file is damaged or of something else.

    """
    path = folder / "settings.json"
    if not path.is_file():
        return {}
    settings = files.read_object(path, "delete it, and the study's next run writes it again")
    if not {"trained_len", "extended_len"} <= settings.keys():
        raise ValueError(f"{path} is not of a study: it must have trained_len and extended_len")
    return made_by_0_1.study_settings(settings)


def is_of_study(row: Record) -> bool:
    """Whether a study's page shows the row: its own perplexity, pass keys and needles, in its own folder of methods."""
    key = row["benchmark"] == "passkey" and row.get("variant") == "study"
    number = row["benchmark"] == "needle" and row.get("form") == "number"
    return (row.get("protocol") == "nested" or key or number) and row["run"].startswith("methods/")


def _write_figures(evals: Evaluations, out: pathlib.Path) -> dict[str, str]:
    """-> titles by file name."""
    titles = {}
    for name, part in FIGURES.items():
        for _, title, make_figure in itertools.islice(part(evals), 1):
            draw(out / name, make_figure)
            titles[name] = title
    if points := _passkey_points(evals):
        draw(out / "scatter.png", lambda: figures.scatters({"pass keys": points}, evals.extended))
        titles["scatter.png"] = "Perplexity against pass keys"
    return titles


def _passkey_points(evals: Evaluations) -> list[Point]:
    _, extended, _ = study_lengths(evals)
    points = [
        Point(who.label, who.kind, ppl(extended).value(rows), 100 * passkey(extended).value(rows))
        for who, rows in evals.rows.items()
    ]
    return [p for p in points if np.isfinite([p.x, p.y]).all()]


def _write_training_curves(folder: pathlib.Path, out: pathlib.Path) -> dict[str, str]:
    """-> title by file name; {}: no method was trained."""
    runs = with_metrics(sorted(folder.glob("methods/*")))
    if not runs:
        return {}
    training_curves(runs, out / "training.png")
    return {"training.png": "Training"}
