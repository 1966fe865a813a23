"""A study's page: perplexity and pass keys of all methods, findings and plots."""

import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from longjax import made_by_0_1
from longjax.evals.requests import Record
from longjax.report.plotting.training_curves import training_curves
from longjax.report.single_run import figures
from longjax.report.single_run.findings import findings
from longjax.report.single_run.results import Result, Study, gather, preferred
from longjax.report.tables import markdown, terminal
from longjax.training.metrics_writer import NAME


def rows_of(study: Study) -> list[list[str]]:
    """-> the table as text, its head first. Needles are there if they were asked for."""
    lengths = study.lengths
    found = lengths if any(r.needles for r in study.results) else ()
    head = [f"PPL {n}" for n in lengths] + [f"key% {n}" for n in lengths] + [f"ndl% {n}" for n in found]
    body = []
    for r in study.results:
        cells = [ppl_text(r.ppl.get(n)) for n in lengths] + [percent(r.passkey(n)) for n in lengths]
        cells += [percent(r.needle(n)) for n in found]
        body.append([r.method, r.kind, *cells, f"{r.seconds:.0f}"])
    return [["method", "kind", *head, "seconds"], *body]


def ppl_text(row: Record | None) -> str:
    """A star: some windows gave no finite loss, and the value leaves them out."""
    if row is None:
        return "-"
    star = "*" if row["nan"] else ""
    return "nan*" if row["value"] is None else f"{row['value']:.{2 if row['value'] < 100 else 0}f}{star}"


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

    `rows` are the study's own, at least one; `folder` has settings.json.
    """
    settings = settings_of(folder)
    everything = gather(rows)
    study = Study(preferred(everything), settings["trained_len"], settings["extended_len"])
    pictures = figures.draw(study, out) | training(folder, out)
    return terminal(rows_of(study)), page(study, everything, settings, pictures)


def settings_of(folder: pathlib.Path) -> dict[str, Any]:
    """-> settings.json, which holds at least trained_len and extended_len; {}: the folder is of no study."""
    path = folder / "settings.json"
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): delete it, and the study's next run writes it again") from error
    if not isinstance(settings, dict) or not {"trained_len", "extended_len"} <= settings.keys():
        raise ValueError(f"{path} is not of a study: it must have trained_len and extended_len")
    return made_by_0_1.study_settings(settings)


def is_of_study(row: Record) -> bool:
    """Whether a study's page shows the row: its own perplexity, pass keys and needles, in its own folder of methods."""
    key = row["benchmark"] == "passkey" and row.get("variant") == "study"
    needle = row["benchmark"] == "needle" and row.get("form") == "number"
    return (row.get("protocol") == "nested" or key or needle) and row["run"].startswith("methods/")


def training(folder: pathlib.Path, out: pathlib.Path) -> dict[str, str]:
    """Writes the curves of the methods' trainings, if there are any. -> file name: title."""
    runs = sorted(path.parent for path in folder.glob(f"methods/*/{NAME}") if path.stat().st_size)
    if not runs:
        return {}
    out.mkdir(parents=True, exist_ok=True)
    training_curves(runs, out / "training.png")
    return {"training.png": "Training"}


def page(study: Study, everything: list[Result], settings: dict[str, Any], pictures: dict[str, str]) -> str:
    c, extended, longest = study.lengths
    parts = [
        f"# Context extension from {c} to {extended} tokens: a controlled study",
        f"Perplexity on held-out text at {c}, {extended} and {longest} tokens; shares of pass keys and of needles "
        "(numbers) retrieved, means over depths; seconds of training and evaluation. Trained methods saw the same rows "
        "in the same order. A star marks windows without a finite loss.",
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
