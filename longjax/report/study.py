"""A study's page: perplexity and pass keys of all methods, findings and plots."""

import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from longjax import logs
from longjax.curves import training_curves
from longjax.evals.task import Record, read_records
from longjax.report import plots
from longjax.report.findings import findings
from longjax.report.results import Result, Study, gather, preferred
from longjax.report.tables import markdown, terminal


def rows_of(study: Study) -> list[list[str]]:
    """-> the table as text, its head first."""
    head = ["method", "kind"] + [f"PPL {n}" for n in study.lengths] + [f"key% {n}" for n in study.lengths] + ["seconds"]
    body = []
    for r in study.results:
        cells = [ppl_text(r.ppl.get(n)) for n in study.lengths] + [percent(r.passkey(n)) for n in study.lengths]
        body.append([r.method, r.kind, *cells, f"{r.seconds:.0f}"])
    return [head, *body]


def ppl_text(record: Record | None) -> str:
    """A star: some windows gave no finite loss, and the value leaves them out."""
    if record is None:
        return "-"
    star = "*" if record["nan"] else ""
    return "nan*" if record["value"] is None else f"{record['value']:.{2 if record['value'] < 100 else 0}f}{star}"


def percent(x: float) -> str:
    return "-" if np.isnan(x) else f"{100 * x:.0f}"


def every_length(study: Study) -> list[list[str]]:
    """-> perplexity with its standard error, at all lengths."""
    lengths = sorted({n for r in study.results for n in r.ppl})
    body = []
    for r in study.results:
        errors = [(r.ppl.get(n), (r.ppl.get(n) or {}).get("stderr")) for n in lengths]
        body.append([r.method, *(ppl_text(x) + (f" +- {e:.2g}" if e is not None else "") for x, e in errors)])
    return [["method", *map(str, lengths)], *body]


def both_weights(results: Sequence[Result], length: int) -> list[list[str]]:
    """-> raw beside averaged weights, for methods that have both."""
    body = []
    for _, pair in itertools.groupby(sorted(results, key=lambda r: r.method), key=lambda r: r.method):
        by = {r.weights: r for r in pair}
        if {"raw", "ema"} <= by.keys():
            raw, ema = by["raw"], by["ema"]
            ppl = [ppl_text(x.ppl.get(length)) for x in (raw, ema)]
            body.append([raw.method, *ppl, *(percent(x.passkey(length)) for x in (raw, ema))])
    return [["method", f"raw PPL {length}", f"EMA PPL {length}", "raw key%", "EMA key%"], *body] if body else []


def write(folder: pathlib.Path, rows: Sequence[Record], out: pathlib.Path) -> tuple[str, str]:
    """Writes the study's plots into `out`. -> its table for a terminal, and the page's Markdown.

    settings.json in `folder` holds at least trained_len and extended_len; the rest is shown as it is.
    """
    records = [*own_records(folder), *rows]
    if not records or not (folder / "settings.json").is_file():
        empty = any(path.exists() for path in record_files(folder))
        if empty and (folder / "settings.json").is_file():
            raise ValueError(f"--dir={folder} has no finished evaluations in records.jsonl")
        raise ValueError(f"--dir={folder} has no {'settings.json' if empty or records else 'records.jsonl'}")
    settings = json.loads((folder / "settings.json").read_text())
    everything = gather(records)
    study = Study(preferred(everything), settings["trained_len"], settings["extended_len"])
    pictures = plots.draw(study, out) | training(folder, out)
    return terminal(rows_of(study)), page(study, everything, settings, pictures)


def is_of_study(row: Record) -> bool:
    """Whether a study's page shows the row: its own perplexity and pass keys."""
    return row.get("protocol") == "nested" or (row["benchmark"] == "passkey" and row.get("variant") == "study")


def record_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / "records.jsonl", *sorted(folder.glob("methods/*/records.jsonl"))]


def own_records(folder: pathlib.Path) -> list[Record]:
    return [record for path in record_files(folder) for record in read_records(path)]


def training(folder: pathlib.Path, out: pathlib.Path) -> dict[str, str]:
    """Writes the curves of the methods' trainings, if there are any. -> file name: title."""
    runs = sorted(path.parent for path in folder.glob(f"methods/*/{logs.NAME}") if path.stat().st_size)
    if not runs:
        return {}
    out.mkdir(parents=True, exist_ok=True)
    training_curves(runs, out / "training.png")
    return {"training.png": "Training"}


def page(study: Study, everything: list[Result], settings: dict[str, Any], pictures: dict[str, str]) -> str:
    c, extended, longest = study.lengths
    parts = [
        f"# Context extension from {c} to {extended} tokens: a controlled study",
        f"Perplexity on held-out text at {c}, {extended} and {longest} tokens; share of pass keys retrieved, mean over "
        "depths; seconds of training and evaluation. Trained methods saw the same rows in the same order. "
        "A star marks windows without a finite loss.",
        markdown(rows_of(study)),
        "## Findings",
        "\n".join(f"- {line}" for line in findings(study)),
        "## Plots",
        *(f"![{title}]({name})" for name, title in pictures.items()),
        "## Perplexity at every length",
        markdown(every_length(study), left=1),
    ]
    if pair := both_weights(everything, extended):
        parts += ["## Raw and averaged weights", markdown(pair, left=1)]
    parts += ["## Settings", "```json\n" + json.dumps(settings, indent=2, sort_keys=True) + "\n```"]
    return "\n\n".join(parts) + "\n"
