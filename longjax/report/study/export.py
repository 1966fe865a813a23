"""Where every number of a study comes from: its scores as CSV, each with its records; its tables as JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from longjax.evals.requests import Record
from longjax.report.rows import Number, suite_of
from longjax.report.study.questions.base import Section
from longjax.report.study.trials import Trials
from longjax.report.tables import Table

FIELDS = ("length", "depth", "shots", "position", "value", "stderr", "n", "nan", "records")


def scores(trials: Trials) -> str:
    """-> a line a score: of which seed, arm and weights it is, its error and count, and the file of its answers."""
    return lines(trials, lambda row: row["task"] != "position_nll", [f for f in FIELDS if f != "position"])


def positions(trials: Trials) -> str:
    """-> the loss by position in the longest windows."""
    return lines(trials, lambda r: r["task"] == "position_nll" and r["length"] == trials.longest, list(FIELDS))


def lines(trials: Trials, wanted: Any, fields: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["seed", "arm", "weights", "kind", "benchmark", "variant", "task", *fields])
    for arm in trials.arms:
        for (name, weights, seed), rows in sorted(trials.rows.items()):
            for row in filter(wanted, rows if name == arm else []):
                about = [seed, arm, weights, row["kind"], row["benchmark"], variant(row), row["task"]]
                writer.writerow([*about, *(cell(row.get(field)) for field in fields)])
    return out.getvalue()


def variant(row: Record) -> str:
    return " ".join(str(value) for _, value in suite_of(row).variant if value is not None)


def cell(value: Any) -> str:
    """-> six digits of numbers; empty: there is none."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def data(trials: Trials, settings: Mapping[str, Any], tables: Sequence[Table], sections: Sequence[Section]) -> str:
    """-> study.json."""
    about = {"trained_len": trials.trained, "extended_len": trials.extended, "seeds": trials.seeds}
    found = {
        "settings": settings,
        "arms": {arm: arm_facts(trials, arm) for arm in trials.arms},
        "tables": [table(t) for t in tables],
        "sections": [
            {"title": s.title, "tables": [table(t) for t in s.tables], "finding": s.finding, "missing": s.missing}
            for s in sections
        ],
    }
    return json.dumps(about | found, indent=1) + "\n"


def arm_facts(trials: Trials, arm: str) -> dict[str, Any]:
    """-> its kind and weights, and all its parameters, where the run has said them."""
    path = trials.own(trials.seeds[0]) / "methods" / arm / "method.json"
    said = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {"kind": trials.kind(arm), "weights": trials.weights(arm)} | said


def table(one: Table) -> dict[str, Any]:
    """-> shares in 0..1, perplexity as it is."""
    rows = [{"name": who.label, "kind": who.kind, "cells": [*map(number, numbers)]} for who, numbers in one.lines]
    return {"file": one.file, "title": one.title, "columns": [c.head for c in one.columns], "lines": rows}


def number(one: Number | None) -> dict[str, Any] | None:
    """-> what is known of it."""
    if one is None:
        return None
    known = {"value": one.value, "half_range": one.half_range, "stderr": one.stderr, "n": one.n, "nan": one.nan}
    return {k: v for k, v in known.items() if v is not None and (v or k == "value")} | (
        {"mark": one.mark} if one.mark else {}
    )
