"""Which numbers cannot be compared: settings that differ between runs, found and marked with letters."""

import dataclasses
import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

from longjax.evals.requests import Record
from longjax.report.rows import Evaluations, ReportSubject, Suite, suite_of

TASK_CHOICES = ("ppl_data",)  # settings that choose among tasks: each row has its own task anyway
RUN_SETTINGS = ("tokenizer_sha256", "dtype", "questions")  # fields of rows that count beside their settings
CellKey = tuple[Suite, str, int | None]  # suite, task and length, within which settings should be the same
Change = tuple[tuple[str, str, str], ...]  # setting, its value, the value of most runs


@dataclasses.dataclass
class Difference:
    """One change of settings against most runs, with the benchmarks that it touches by label of the subject."""

    change: Change
    benchmarks: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, who: ReportSubject, benchmark: str) -> None:
        names = self.benchmarks.setdefault(who.label, [])
        if benchmark not in names:
            names.append(benchmark)

    def __str__(self) -> str:
        changes = "; ".join(f"{name} is {value} rather than {usual}" for name, value, usual in self.change)
        return f"{changes}: " + "; ".join(f"{label} ({', '.join(names)})" for label, names in self.benchmarks.items())


def mark_differences(evals: Evaluations) -> tuple[Evaluations, dict[str, Difference]]:
    """Mark rows whose settings differ from those of most runs.

    Returns:
      the evaluations, such rows with a letter under "mark", and the meaning of the letters.

    """
    differences: dict[Change, Difference] = {}
    letters: dict[tuple[ReportSubject, CellKey], str] = {}
    for cell, settings in _settings_by_cell(evals).items():
        usual = _most_common(list(settings.values()))
        for who, own in settings.items():
            if change := _changes(own, usual):
                differences.setdefault(change, Difference(change)).add(who, cell[0].benchmark)
                letters[who, cell] = _letter(list(differences).index(change))
    marked = {
        who: [row | {"mark": letters[who, cell]} if (who, cell := _cell_of(row)) in letters else row for row in rows]
        for who, rows in evals.rows.items()
    }
    return dataclasses.replace(evals, rows=marked), {_letter(i): d for i, d in enumerate(differences.values())}


def _letter(i: int) -> str:
    return string.ascii_lowercase[i % 26] * (1 + i // 26)


def _cell_of(row: Record) -> CellKey:
    return suite_of(row), row["task"], row.get("length")


def _settings_by_cell(evals: Evaluations) -> dict[CellKey, dict[ReportSubject, Record]]:
    """-> in each cell the settings of every subject, and the number of its examples."""
    groups: dict[tuple[CellKey, ReportSubject], list[Record]] = {}
    for who, rows in evals.rows.items():
        for row in rows:
            groups.setdefault((_cell_of(row), who), []).append(row)
    uncertain = {cell for (cell, _), rows in groups.items() if any(r.get("nan") for r in rows)}
    by_cell: dict[CellKey, dict[ReportSubject, Record]] = {}
    for (cell, who), rows in groups.items():
        counted = cell not in uncertain and cell[1] != "position_nll"  # else NaN may have lowered the number
        size = {"examples": sum(r.get("n") or 0 for r in rows)} if counted else {}
        of_run = {name: rows[0][name] for name in RUN_SETTINGS if name in rows[0]}
        by_cell.setdefault(cell, {})[who] = flat(rows[0].get("settings") or {}) | of_run | size
    return by_cell


def flat(settings: Record, prefix: str = "") -> Record:
    """Return nested settings as one level, {"data": {"sha256": x}} as {"data.sha256": x}, without task choices."""
    out: Record = {}
    for name, value in settings.items():
        if name in TASK_CHOICES:
            continue
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def _most_common(settings: Sequence[Record]) -> Record:
    """-> for each setting the most frequent value; of equally frequent ones the first."""
    usual = {}
    for name in dict.fromkeys(name for record in settings for name in record):
        values = [record.get(name) for record in settings]
        count = Counter(map(repr, values))
        usual[name] = max(values, key=lambda value: count[repr(value)])
    return usual


def _changes(own: Record, usual: Record) -> Change:
    different = [name for name in sorted(usual) if repr(own.get(name)) != repr(usual[name])]
    return tuple((name, *_pair_in_words(own.get(name), usual[name])) for name in different)


def _pair_in_words(own: Any, usual: Any) -> tuple[str, str]:
    """-> both as short texts; of two hashes only that they differ."""
    if _is_hash(own) and _is_hash(usual):
        return "another", "that of most runs"
    return brief(own), brief(usual)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32,}", value) is not None


def brief(value: Any) -> str:
    """Return a value in a few words: hashes by their first characters, texts as far as they fit in a line."""
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:12] if _is_hash(value) else text if len(text) < 60 else text[:57] + "..."


def partial_suites(evals: Evaluations) -> list[str]:
    """Return a warning for each benchmark that was not run by one protocol for all."""
    lines = []
    for benchmark in dict.fromkeys(r["benchmark"] for rows in evals.rows.values() for r in rows):
        suites = {s: list(evals.select(s)) for s in evals.suites(benchmark)}
        everyone = {who for subjects in suites.values() for who in subjects}
        if any(len(subjects) < len(everyone) for subjects in suites.values()):
            parts = [f"{suite.title}: {', '.join(w.label for w in subjects)}" for suite, subjects in suites.items()]
            lines.append("Not all by one protocol, so in tables of their own: " + "; ".join(parts) + ".")
    return lines
