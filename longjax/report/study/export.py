"""The numbers of a study as data: its scores as CSV, each with its file of records; its tables as JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from longjax.evals.requests import Record
from longjax.files import read_object
from longjax.report.rows import Number, suite_of
from longjax.report.study.questions.base import Section
from longjax.report.study.trials import Trials
from longjax.report.tables import Table

FIELDS = ("length", "depth", "shots", "position", "value", "stderr", "n", "nan", "records")


def scores_csv(trials: Trials) -> str:
    """Return a line a score: its seed, arm and weights, its error and count, and its file of records."""
    return _csv(trials, lambda row: row["task"] != "position_nll", [f for f in FIELDS if f != "position"])


def positions_csv(trials: Trials) -> str:
    """Return the loss by position in the longest windows."""
    return _csv(trials, lambda r: r["task"] == "position_nll" and r["length"] == trials.longest, list(FIELDS))


def _csv(trials: Trials, wanted: Callable[[Record], bool], fields: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["seed", "arm", "weights", "kind", "benchmark", "variant", "task", *fields])
    for arm in trials.arms:
        for (name, weights, seed), rows in sorted(trials.rows.items()):
            for row in filter(wanted, rows if name == arm else []):
                trial = [seed, arm, weights, row["kind"], row["benchmark"], _variant(row), row["task"]]
                writer.writerow([*trial, *(_cell(row.get(field)) for field in fields)])
    return out.getvalue()


def _variant(row: Record) -> str:
    return " ".join(str(value) for _, value in suite_of(row).variant if value is not None)


def _cell(value: Any) -> str:
    """-> six digits of numbers; empty: there is none."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def study_json(
    trials: Trials, settings: Mapping[str, Any], tables: Sequence[Table], sections: Sequence[Section]
) -> str:
    """Return all tables, findings, settings and arms with their parameters."""
    lengths = {"trained_len": trials.trained, "extended_len": trials.extended, "seeds": trials.seeds}
    content = {
        "settings": settings,
        "arms": {arm: _arm_facts(trials, arm) for arm in trials.arms},
        "tables": [_table_data(t) for t in tables],
        "sections": [_section_data(s) for s in sections],
    }
    return json.dumps(lengths | content, indent=1) + "\n"


def _section_data(section: Section) -> dict[str, Any]:
    finding = [section.finding, *section.claims] if section.finding else []
    tables = [_table_data(t) for t in section.tables]
    return {"title": section.title, "tables": tables, "finding": finding, "missing": section.missing}


def _arm_facts(trials: Trials, arm: str) -> dict[str, Any]:
    """-> its kind and weights, and all its parameters, where the run has recorded them."""
    path = trials.seed_folder(trials.seeds[0]) / "methods" / arm / "method.json"
    parameters = read_object(path, "copy the run again") if path.is_file() else {}
    return {"kind": trials.kind(arm), "weights": trials.weights(arm)} | parameters


def _table_data(table: Table) -> dict[str, Any]:
    """-> shares in 0..1, perplexity as it is."""
    lines = [
        {"name": who.label, "kind": who.kind, "cells": [*map(_number_data, numbers)]} for who, numbers in table.lines
    ]
    return {"file": table.file, "title": table.title, "columns": [c.head for c in table.columns], "lines": lines}


def _number_data(number: Number | None) -> dict[str, Any] | None:
    """-> what is known of it."""
    if number is None:
        return None
    fields = {"value": number.value, "half_range": number.half_range, "stderr": number.stderr}
    counts = {"n": number.n, "nan": number.nan, "mark": number.mark}
    known = {name: x for name, x in fields.items() if x is not None}
    return {name: x for name, x in known.items() if x or name == "value"} | {n: x for n, x in counts.items() if x}
