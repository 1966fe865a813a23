"""Table 1: perplexity and the four benchmarks of the study, and the same beside what was published."""

import dataclasses
from collections.abc import Callable, Sequence

from longjax.evals.requests import Record
from longjax.report.aggregates import all_cells, all_shots, complete_only, sixteen, thirteen
from longjax.report.published import COLUMNS
from longjax.report.rows import Evaluations, Number, Suite, mean_of, mean_row
from longjax.report.tables import Column, Table

SCORES = COLUMNS[1:]
HEADS = {c: Column(c, 1.0, 2) if c == "PPL" else Column(c) for c in (*COLUMNS, "mean")}
PROTOCOLS = ("lceg", "strided", "yarn", "nonoverlap", "nested")  # of several, the first is Table 1's
BENCHMARKS = dict(zip(COLUMNS, ("perplexity", "needle", "manyshot", "longbench", "ruler"), strict=True))


@dataclasses.dataclass(frozen=True)
class TableEntry:
    """What a column of Table 1 shows: of which suite, and the number of a subject's rows of that suite."""

    suite: Suite
    number: Callable[[Sequence[Record]], Number | None]
    note: str


def main_length(all_of: Evaluations) -> int | None:
    """-> the length of Table 1: that of the training, or the study's, or the longest with any scores at all."""
    rows = [r for mine in all_of.rows.values() for r in mine if r["benchmark"] in ("perplexity", "ruler")]
    lengths = {r["length"] for r in rows}
    wished = [n for n in (all_of.extended, 32768) if n in lengths]
    return wished[0] if wished else max(lengths, default=None)


def table_1(all_of: Evaluations) -> Table:
    length = main_length(all_of)
    chosen = entries(all_of, length)
    lines = []
    for who in all_of.rows:
        numbers = {c: e.number(rows) for c, e in chosen.items() if (rows := all_of.select(e.suite).get(who))}
        scores = [numbers.get(c) for c in SCORES]
        numbers["mean"] = mean_of(scores, len(SCORES)) if all(map(complete_only, scores)) else None
        lines.append((who, tuple(numbers.get(c) for c in HEADS)))
    notes = [f"{column}: {entry.note}." for column, entry in chosen.items()]
    missing = [c for c in COLUMNS if c not in chosen]
    notes += [f"Not run: {', '.join(missing)}."] * bool(missing)
    at = f" at {length}" if length else ""
    return Table(
        "table1", f"Table 1: perplexity, and scores in %{at}", tuple(HEADS.values()), tuple(lines), tuple(notes)
    )


def entries(all_of: Evaluations, length: int | None) -> dict[str, TableEntry]:
    """-> the columns for which there are rows. Of several suites that of most subjects, and of the study's protocol."""
    found = {}
    for column, benchmark in BENCHMARKS.items():
        suites = sorted(all_of.suites(benchmark), key=rank)
        if suites:
            found[column] = MAKERS[column](suites[0], length)
    return found


def rank(suite: Suite) -> int:
    protocol = suite.get("protocol")
    return PROTOCOLS.index(protocol) if protocol in PROTOCOLS else len(PROTOCOLS)


def ppl_entry(suite: Suite, length: int | None) -> TableEntry:
    def number(rows: Sequence[Record]) -> Number | None:
        mine = [r for r in rows if r["length"] == length and r["task"] == "perplexity"]
        return mean_row(mine) if mine else None

    return TableEntry(suite, number, f"{suite.title}, length {length}")


def needle_entry(suite: Suite, length: int | None) -> TableEntry:
    return TableEntry(
        suite, all_cells("value"), f"{suite.title}, share of the facts found, mean over all lengths and depths"
    )


def manyshot_entry(suite: Suite, length: int | None) -> TableEntry:
    return TableEntry(suite, all_shots, "mean over all numbers of shots")


def longbench_entry(suite: Suite, length: int | None) -> TableEntry:
    return TableEntry(suite, sixteen("value"), "LongBench's own scorer, mean of the study's 16 tasks")


def ruler_entry(suite: Suite, length: int | None) -> TableEntry:
    return TableEntry(suite, thirteen(length), f"{suite.title}, length {length}, mean of 13 tasks")


MAKERS: dict[str, Callable[[Suite, int | None], TableEntry]] = dict(
    zip(COLUMNS, (ppl_entry, needle_entry, manyshot_entry, longbench_entry, ruler_entry), strict=True)
)
