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

ASKED = ("ppl_data",)  # settings that say which of several tasks were asked: a row says which it is
OF_RUNS = ("tokenizer_sha256", "dtype", "questions")  # what rows say beside their settings
Place = tuple[Suite, str, int | None]  # where settings should be the same: suite, task, length
Change = tuple[tuple[str, str, str], ...]  # setting, its value, the value of most


@dataclasses.dataclass
class Difference:
    """What the numbers with this letter have in common: the same change of settings against most runs."""

    change: Change
    where: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # benchmarks by label of the subject

    def add(self, who: ReportSubject, benchmark: str) -> None:
        benchmarks = self.where.setdefault(who.label, [])
        benchmarks += [benchmark] * (benchmark not in benchmarks)

    def __str__(self) -> str:
        changes = "; ".join(f"{name} is {mine} rather than {usual}" for name, mine, usual in self.change)
        return f"{changes}: " + "; ".join(f"{label} ({', '.join(names)})" for label, names in self.where.items())


def compared(all_of: Evaluations) -> tuple[Evaluations, dict[str, Difference]]:
    """-> the rows, those of unlike settings with a letter under "mark"; what the letters mean."""
    found: dict[Change, Difference] = {}
    letters: dict[tuple[ReportSubject, Place], str] = {}
    for place, settings in everywhere(all_of).items():
        usual = most(list(settings.values()))
        for who, mine in settings.items():
            if change := changes(mine, usual):
                found.setdefault(change, Difference(change)).add(who, place[0].benchmark)
                letters[who, place] = letter(list(found).index(change))
    marked = {
        who: [row | {"mark": letters[who, p]} if (who, p := place_of(row)) in letters else row for row in rows]
        for who, rows in all_of.rows.items()
    }
    return dataclasses.replace(all_of, rows=marked), {letter(i): d for i, d in enumerate(found.values())}


def letter(i: int) -> str:
    return string.ascii_lowercase[i % 26] * (1 + i // 26)


def place_of(row: Record) -> Place:
    return suite_of(row), row["task"], row.get("length")


def everywhere(all_of: Evaluations) -> dict[Place, dict[ReportSubject, Record]]:
    """-> at each place the settings of every subject that was there, and the number of its examples."""
    found: dict[Place, dict[ReportSubject, Record]] = {}
    groups: dict[tuple[Place, ReportSubject], list[Record]] = {}
    for who, rows in all_of.rows.items():
        for row in rows:
            groups.setdefault((place_of(row), who), []).append(row)
    uncertain = {place for (place, _), rows in groups.items() if any(r.get("nan") for r in rows)}
    for (place, who), rows in groups.items():
        counted = place not in uncertain and place[1] != "position_nll"  # else NaN may have lowered the number
        size = {"examples": sum(r.get("n") or 0 for r in rows)} if counted else {}
        own = {name: rows[0][name] for name in OF_RUNS if name in rows[0]}
        found.setdefault(place, {})[who] = flat(rows[0].get("settings") or {}) | own | size
    return found


def flat(settings: Record, prefix: str = "") -> Record:
    """-> one level: {"data": {"sha256": x}} as {"data.sha256": x}, without what says nothing of one task."""
    out: Record = {}
    for name, value in settings.items():
        if name in ASKED:
            continue
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def most(settings: Sequence[Record]) -> Record:
    """-> for each setting the value that most have; of as frequent ones, the first."""
    usual = {}
    for name in dict.fromkeys(name for one in settings for name in one):
        values = [one.get(name) for one in settings]
        count = Counter(map(repr, values))
        usual[name] = max(values, key=lambda value: count[repr(value)])
    return usual


def changes(mine: Record, usual: Record) -> Change:
    different = [name for name in sorted(usual) if repr(mine.get(name)) != repr(usual[name])]
    return tuple((name, *shown(mine.get(name), usual[name])) for name in different)


def shown(mine: Any, usual: Any) -> tuple[str, str]:
    """-> both as short texts; of two hashes no more than that they differ."""
    if is_hash(mine) and is_hash(usual):
        return "another", "that of most runs"
    return brief(mine), brief(usual)


def is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32,}", value) is not None


def brief(value: Any) -> str:
    """-> hashes by their first characters, other texts as far as they fit in a line."""
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:12] if is_hash(value) else text if len(text) < 60 else text[:57] + "..."


def apart(all_of: Evaluations) -> list[str]:
    """-> which subjects have suites that others, evaluated on the same benchmark, have not."""
    lines = []
    for benchmark in dict.fromkeys(r["benchmark"] for rows in all_of.rows.values() for r in rows):
        suites = {s: list(all_of.select(s)) for s in all_of.suites(benchmark)}
        everyone = {who for found in suites.values() for who in found}
        if any(len(found) < len(everyone) for found in suites.values()):
            parts = [f"{suite.title}: {', '.join(w.label for w in found)}" for suite, found in suites.items()]
            lines.append("Not all by one protocol, so in tables of their own: " + "; ".join(parts) + ".")
    return lines
