"""Table 1 of arXiv:2409.12181: perplexity and four benchmarks, one line a method."""

import dataclasses
from collections.abc import Callable, Sequence

from longjax.evals.requests import Record
from longjax.report.aggregates import is_complete, longbench_mean, mean_of_cells, mean_of_shots, ruler_mean
from longjax.report.published import COLUMNS
from longjax.report.rows import Evaluations, Number, Suite, mean_of, mean_row
from longjax.report.tables import Column, Table

SCORES = COLUMNS[1:]
HEADS = {c: Column(c, 1.0, 2) if c == "PPL" else Column(c) for c in (*COLUMNS, "mean")}
PROTOCOLS = ("lceg", "strided", "yarn", "nonoverlap", "nested")  # of several, the first is Table 1's
BENCHMARKS = dict(zip(COLUMNS, ("perplexity", "needle", "manyshot", "longbench", "ruler"), strict=True))


@dataclasses.dataclass(frozen=True)
class TableEntry:
    """The content of a column: its suite, and the number of a subject's rows of that suite."""

    suite: Suite
    number: Callable[[Sequence[Record]], Number | None]
    note: str


def main_length(evals: Evaluations) -> int | None:
    """Return the length of Table 1: that of the training, or the study's 32768, or the longest with any scores."""
    rows = [r for subject_rows in evals.rows.values() for r in subject_rows]
    lengths = {r["length"] for r in rows if r["benchmark"] in ("perplexity", "ruler")}
    wanted = [n for n in (evals.extended, 32768) if n in lengths]
    return wanted[0] if wanted else max(lengths, default=None)


def table_1(evals: Evaluations) -> Table:
    """Return Table 1; the mean of scores stands where all four are complete."""
    length = main_length(evals)
    columns = entries(evals, length)
    lines = []
    for who in evals.rows:
        numbers = {c: e.number(rows) for c, e in columns.items() if (rows := evals.select(e.suite).get(who))}
        scores = [numbers.get(c) for c in SCORES]
        numbers["mean"] = mean_of(scores, len(SCORES)) if all(map(is_complete, scores)) else None
        lines.append((who, tuple(numbers.get(c) for c in HEADS)))
    notes = [f"{column}: {entry.note}." for column, entry in columns.items()]
    if missing := [c for c in COLUMNS if c not in columns]:
        notes.append(f"Not run: {', '.join(missing)}.")
    title = "Table 1: perplexity, and scores in %" + (f" at {length}" if length else "")
    return Table("table1", title, tuple(HEADS.values()), tuple(lines), tuple(notes))


def entries(evals: Evaluations, length: int | None) -> dict[str, TableEntry]:
    """Return the columns with rows: of several suites the one of most subjects, and of the study's protocol."""
    suites = {column: sorted(evals.suites(benchmark), key=_rank) for column, benchmark in BENCHMARKS.items()}
    return {column: MAKERS[column](ordered[0], length) for column, ordered in suites.items() if ordered}


def _rank(suite: Suite) -> int:
    protocol = suite.get("protocol")
    return PROTOCOLS.index(protocol) if protocol in PROTOCOLS else len(PROTOCOLS)


def _ppl_entry(suite: Suite, length: int | None) -> TableEntry:
    def number(rows: Sequence[Record]) -> Number | None:
        at_length = [r for r in rows if r["length"] == length and r["task"] == "perplexity"]
        return mean_row(at_length) if at_length else None

    return TableEntry(suite, number, f"{suite.title}, length {length}")


def _needle_entry(suite: Suite, length: int | None) -> TableEntry:
    note = f"{suite.title}, share of the facts found, mean over all lengths and depths"
    return TableEntry(suite, mean_of_cells("value"), note)


def _manyshot_entry(suite: Suite, length: int | None) -> TableEntry:
    return TableEntry(suite, mean_of_shots, "mean over all numbers of shots")


def _longbench_entry(suite: Suite, length: int | None) -> TableEntry:
    return TableEntry(suite, longbench_mean("value"), "LongBench's own scorer, mean of the study's 16 tasks")


def _ruler_entry(suite: Suite, length: int | None) -> TableEntry:
    return TableEntry(suite, ruler_mean(length), f"{suite.title}, length {length}, mean of 13 tasks")


MAKERS: dict[str, Callable[[Suite, int | None], TableEntry]] = dict(
    zip(COLUMNS, (_ppl_entry, _needle_entry, _manyshot_entry, _longbench_entry, _ruler_entry), strict=True)
)
