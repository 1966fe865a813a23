"""The tables of all benchmarks: perplexity, needle, pass keys, RULER, LongBench, many-shot, short tasks, cost."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from longjax.evals.requests import Record
from longjax.report.aggregates import LONGBENCH_16, RULER_TASKS
from longjax.report.rows import Evaluations, Number, ReportSubject, Suite, mean_of, means
from longjax.report.tables import Column, Table

BY_LENGTH = {"ended_by_length": "answers that their limit of tokens ended"}
SCORES: dict[str, dict[str, str]] = {  # fields of a row, and what they are
    "needle": {
        "value": "share of the needle's facts found",
        "word_overlap": "the study's word overlap, at most 91.7",
        "rouge1": "ROUGE-1 against the needle",
        "exact": "the answer word for word",
        **BY_LENGTH,
    },
    "passkey": {"value": "keys retrieved in full", "partial": "digits of keys", **BY_LENGTH},
    "longbench": {
        "value": "LongBench's scorer",
        "lceg": "the study's scorer",
        "truncated": "prompts that lost their middle",
        "empty": "empty answers",
        **BY_LENGTH,
    },
    "ruler": {
        "value": "recall",
        "precision": "precision",
        "fill": "share of the length that the prompts fill",
        **BY_LENGTH,
    },
    "manyshot": {"value": "right types", **BY_LENGTH},
}
OF_13 = "'(of k)': the mean over k tasks, as the others were not run."
Lines = dict[ReportSubject, dict[Any, Number]]


def tables(evals: Evaluations) -> list[Table]:
    """Return the tables for which there are rows."""
    parts = (
        perplexity_tables,
        needle_tables,
        passkey_tables,
        ruler_tables,
        longbench_tables,
        manyshot_tables,
        short_tables,
        cost_tables,
    )
    return [table for part in parts for table in part(evals) if table.lines]


def _grid(lines: Lines, file: str, title: str, columns: dict[Any, Column], notes: Sequence[str] = ()) -> Table:
    """-> the table with these keys as columns."""
    body = tuple((who, tuple(numbers.get(key) for key in columns)) for who, numbers in lines.items())
    return Table(file, title, tuple(columns.values()), body, tuple(notes))


def rows_of_suite(
    evals: Evaluations, suite: Suite, key: Callable[[Record], Hashable], field: str = "value", task: str | None = None
) -> Lines:
    """Return for each subject of a suite, or of one of its tasks, the means of rows with the same key."""
    lines = {who: means(rows, key, field) for who, rows in evals.select(suite, task).items()}
    return {who: numbers for who, numbers in lines.items() if numbers}


def _length(row: Record) -> int:
    return row["length"]


def _task(row: Record) -> str:
    return row["task"]


def _keys(lines: Lines) -> list[Any]:
    return sorted({key for numbers in lines.values() for key in numbers})


def perplexity_tables(evals: Evaluations) -> Iterator[Table]:
    """Table 2 of arXiv:2409.12181, one a data set and protocol."""
    for suite in evals.suites("perplexity"):
        lines = rows_of_suite(evals, suite, _length, task="perplexity")
        columns = {n: Column(str(n), 1.0, 2) for n in _keys(lines)}
        starred = any(number.nan for numbers in lines.values() for number in numbers.values())
        notes = ["A star: windows without a finite loss, which the number leaves out."] if starred else []
        yield _grid(lines, suite.file, f"Perplexity by length: {suite.title}", columns, notes)


def _tables_by_length(evals: Evaluations, benchmark: str, name: str) -> Iterator[Table]:
    for suite in evals.suites(benchmark):
        for field, meaning in SCORES[benchmark].items():
            lines = rows_of_suite(evals, suite, _length, field)
            title = f"{name} by length, mean over depths, %: {suite.title}; {meaning}"
            if lines:
                yield _grid(lines, _file(suite, field), title, {n: Column(str(n)) for n in _keys(lines)})


def needle_tables(evals: Evaluations) -> Iterator[Table]:
    """A table a score of the needle."""
    return _tables_by_length(evals, "needle", "Needle in a haystack")


def passkey_tables(evals: Evaluations) -> Iterator[Table]:
    """A table a score of pass keys."""
    return _tables_by_length(evals, "passkey", "Pass keys")


def ruler_tables(evals: Evaluations) -> Iterator[Table]:
    """The mean of 13 tasks by length (Table 3 of arXiv:2409.12181), then all tasks, a table a length."""
    for suite in evals.suites("ruler"):
        rows_by_subject = evals.select(suite)
        for field, meaning in SCORES["ruler"].items():
            lines = {who: line for who, rows in rows_by_subject.items() if (line := _ruler_means(rows, field))}
            columns = {n: Column(str(n)) for n in _keys(lines)}
            title = f"RULER by length, mean of 13 tasks, %: {suite.title}; {meaning}"
            if lines:
                yield _grid(lines, _file(suite, field), title, columns, [OF_13])
        for length in sorted({r["length"] for rows in rows_by_subject.values() for r in rows}):
            lines = {
                who: means([r for r in rows if r["length"] == length], _task) for who, rows in rows_by_subject.items()
            }
            title = f"RULER at {length} by task, %: {suite.title}"
            yield _with_mean(lines, f"{suite.file}_{length}", title, RULER_TASKS)


def _ruler_means(rows: Sequence[Record], field: str) -> dict[int, Number]:
    cells = means(rows, lambda r: (r["length"], r["task"]), field)
    by_length = {n: mean_of([cells.get((n, t)) for t in RULER_TASKS], len(RULER_TASKS)) for n, _ in cells}
    return {n: number for n, number in by_length.items() if number is not None}


def _file(suite: Suite, field: str) -> str:
    return suite.file + (f"_{field}" if field != "value" else "")


def _with_mean(lines: Lines, file: str, title: str, tasks: Sequence[str]) -> Table:
    """-> a table with a column a task and one for the mean of all; tasks that were not run stay, as '-'."""
    columns = {"mean": Column(f"mean of {len(tasks)}")} | {task: Column(task) for task in tasks}
    full = {
        who: line | {"mean": total}
        for who, line in lines.items()
        if (total := mean_of([line.get(task) for task in tasks], len(tasks)))
    }
    partial = any("of " in line["mean"].mark for line in full.values())
    return _grid(full, file, title, columns, [OF_13] if partial else [])


def longbench_tables(evals: Evaluations) -> Iterator[Table]:
    """Table 4 of arXiv:2409.12181, with both scorers; the mean is over its 16 tasks, or over those of the E subset."""
    for suite in [*evals.suites("longbench"), *evals.suites("longbench_e")]:
        name = "LongBench" if suite.benchmark == "longbench" else "LongBench-E"
        for field, meaning in SCORES["longbench"].items():
            lines = rows_of_suite(evals, suite, _task, field)
            tasks = LONGBENCH_16 if suite.benchmark == "longbench" else _keys(lines)
            title = f"{name} by task, %: {meaning}"
            if lines:
                yield _with_mean(lines, _file(suite, field), title, tasks)
                yield from _other_tasks(lines, _file(suite, field), title, tasks)
        for field in ("by_length", "lceg_by_length"):
            yield _by_text_length(evals, suite, field, f"{name} by length of the text in words, mean over tasks, %")


def _by_text_length(evals: Evaluations, suite: Suite, field: str, title: str) -> Table:
    lines = {}
    for who, rows in evals.select(suite).items():
        cells = [
            {"value": x, "bucket": bucket, "mark": r.get("mark")}
            for r in rows
            for bucket, x in (r.get(field) or {}).items()
            if x is not None
        ]
        if cells:
            lines[who] = means(cells, lambda r: r["bucket"])
    buckets = dict.fromkeys(b for rows in evals.select(suite).values() for r in rows for b in r.get(field) or {})
    meaning = SCORES["longbench"]["lceg" if field.startswith("lceg") else "value"]
    return _grid(lines, f"{suite.file}_{field}", f"{title}: {meaning}", {b: Column(b) for b in buckets})


def _other_tasks(lines: Lines, name: str, title: str, tasks: Sequence[str]) -> Iterator[Table]:
    """Tasks beside those of the mean: the Chinese ones and lsht."""
    more = [task for task in _keys(lines) if task not in tasks]
    if more:
        yield _grid(lines, f"{name}_more", f"{title}, the tasks that the study left out", {t: Column(t) for t in more})


def manyshot_tables(evals: Evaluations) -> Iterator[Table]:
    """Many-shot TREC, a column a number of examples."""
    for suite in evals.suites("manyshot"):
        for field, meaning in SCORES["manyshot"].items():
            lines = rows_of_suite(evals, suite, lambda r: r["shots"], field)
            title = f"Many-shot TREC by number of examples in the prompt, %: {meaning}"
            yield _grid(lines, _file(suite, field), title, {shots: Column(str(shots)) for shots in _keys(lines)})


def short_tables(evals: Evaluations) -> Iterator[Table]:
    """Short tasks, a column a task and metric."""
    for suite in evals.suites("short"):
        lines = rows_of_suite(evals, suite, lambda r: (r["task"], r.get("metric") or ""))
        columns = {key: Column(" ".join(key).strip()) for key in _keys(lines)}
        yield _grid(lines, suite.file, "Short tasks, %", columns)


def cost_tables(evals: Evaluations) -> Iterator[Table]:
    """Time and memory of the evaluations. The first row of a task has its seconds, all others 0."""
    columns = {
        "seconds": Column("seconds", 1.0, 0), "tokens_per_second": Column("tokens/s", 1.0, 0),
        "peak_bytes": Column("peak GiB", 2.0**-30, 2),
    }  # fmt: skip
    lines = {who: costs for who, rows in evals.rows.items() if (costs := _costs(rows))}
    if lines:
        yield _grid(lines, "cost", "Cost of the evaluations: all tasks together", columns)


def _costs(rows: Sequence[Record]) -> dict[str, Number]:
    tasks = [r for r in rows if r.get("seconds")]
    seconds = sum(r["seconds"] for r in tasks)
    tokens = sum(r["seconds"] * (r.get("tokens_per_second") or 0.0) for r in tasks)
    peak = max((r.get("peak_bytes") or 0 for r in rows), default=0)
    costs = {"seconds": seconds, "tokens_per_second": tokens / seconds if seconds else 0.0, "peak_bytes": float(peak)}
    return {name: Number(value) for name, value in costs.items() if value}
