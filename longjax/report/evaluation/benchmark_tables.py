"""The tables of all benchmarks: perplexity, needle, pass keys, RULER, LongBench, many-shot, short tasks, cost."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from longjax.evals.requests import Record
from longjax.report.aggregates import LONGBENCH_16, RULER_TASKS
from longjax.report.rows import Evaluations, Number, ReportSubject, Suite, mean_of, means
from longjax.report.tables import Column, Table

SCORES: dict[str, dict[str, str]] = {  # fields of a row, and what they are
    "needle": {
        "value": "share of the needle's facts found",
        "word_overlap": "the study's word overlap, of which 91.7 is the most",
        "rouge1": "ROUGE-1 against the needle",
        "exact": "the answer said word for word",
    },
    "passkey": {"value": "keys said in full", "partial": "digits of keys"},
    "longbench": {
        "value": "LongBench's scorer",
        "lceg": "the study's scorer",
        "truncated": "prompts that lost their middle",
        "empty": "answers that say nothing",
    },
    "ruler": {"value": "recall", "precision": "precision", "fill": "how much of the length the prompts fill"},
}
OF_13 = "'(of k)': the mean over k tasks, as the others were not run."


def tables(all_of: Evaluations) -> list[Table]:
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
    return [table for part in parts for table in part(all_of) if table.lines]


def grid(
    lines: dict[ReportSubject, dict[Any, Number]],
    file: str,
    title: str,
    columns: dict[Any, Column],
    notes: Sequence[str] = (),
) -> Table:
    """-> the table with these keys as columns."""
    body = tuple((who, tuple(numbers.get(key) for key in columns)) for who, numbers in lines.items())
    return Table(file, title, tuple(columns.values()), body, tuple(notes))


def rows_of_suite(
    all_of: Evaluations, suite: Suite, key: Callable[[Record], Hashable], field: str = "value", task: str | None = None
) -> dict[ReportSubject, dict[Any, Number]]:
    """-> of everyone, the means of rows with the same key."""
    found = {who: means(rows, key, field) for who, rows in all_of.select(suite, task).items()}
    return {who: numbers for who, numbers in found.items() if numbers}


def length_of(row: Record) -> int:
    return row["length"]


def task_of(row: Record) -> str:
    return row["task"]


def keys(lines: dict[ReportSubject, dict[Any, Number]]) -> list[Any]:
    return sorted({key for numbers in lines.values() for key in numbers})


def perplexity_tables(all_of: Evaluations) -> Iterator[Table]:
    """Table 2 of the study: one a data set and protocol."""
    for suite in all_of.suites("perplexity"):
        lines = rows_of_suite(all_of, suite, length_of, task="perplexity")
        columns = {n: Column(str(n), 1.0, 2) for n in keys(lines)}
        star = "A star: windows without a finite loss, which the number leaves out." if starred(lines) else ""
        yield grid(lines, suite.file, f"Perplexity by length: {suite.title}", columns, [star] * bool(star))


def starred(lines: dict[ReportSubject, dict[Any, Number]]) -> bool:
    return any(number.nan for numbers in lines.values() for number in numbers.values())


def tables_by_length(all_of: Evaluations, benchmark: str, what: str) -> Iterator[Table]:
    for suite in all_of.suites(benchmark):
        for field, words in SCORES[benchmark].items():
            lines = rows_of_suite(all_of, suite, length_of, field)
            title = f"{what} by length, mean over depths, %: {suite.title}; {words}"
            if lines:
                yield grid(lines, file_of(suite, field), title, {n: Column(str(n)) for n in keys(lines)})


def needle_tables(all_of: Evaluations) -> Iterator[Table]:
    return tables_by_length(all_of, "needle", "Needle in a haystack")


def passkey_tables(all_of: Evaluations) -> Iterator[Table]:
    return tables_by_length(all_of, "passkey", "Pass keys")


def ruler_tables(all_of: Evaluations) -> Iterator[Table]:
    """The mean of 13 tasks by length (table 3 of the study), then all tasks, a table a length."""
    for suite in all_of.suites("ruler"):
        chosen = all_of.select(suite)
        for field, words in SCORES["ruler"].items():
            lines = {who: found for who, rows in chosen.items() if (found := ruler_means(rows, field))}
            columns = {n: Column(str(n)) for n in keys(lines)}
            title = f"RULER by length, mean of 13 tasks, %: {suite.title}; {words}"
            if lines:
                yield grid(lines, file_of(suite, field), title, columns, [OF_13])
        for length in sorted({r["length"] for rows in chosen.values() for r in rows}):
            lines = {who: means([r for r in rows if r["length"] == length], task_of) for who, rows in chosen.items()}
            title = f"RULER at {length} by task, %: {suite.title}"
            yield with_mean(lines, f"{suite.file}_{length}", title, RULER_TASKS)


def ruler_means(rows: Sequence[Record], field: str) -> dict[int, Number]:
    cells = means(rows, lambda r: (r["length"], r["task"]), field)
    found = {n: mean_of([cells.get((n, t)) for t in RULER_TASKS], len(RULER_TASKS)) for n, _ in cells}
    return {n: number for n, number in found.items() if number is not None}


def file_of(suite: Suite, field: str) -> str:
    return suite.file + (f"_{field}" if field != "value" else "")


def with_mean(lines: dict[ReportSubject, dict[str, Number]], file: str, title: str, tasks: Sequence[str]) -> Table:
    """-> a table with a column a task and one for the mean of all; those tasks that nobody was given stay, as '-'."""
    columns = {"mean": Column(f"mean of {len(tasks)}")} | {task: Column(task) for task in tasks}
    full = {
        who: line | {"mean": total}
        for who, line in lines.items()
        if (total := mean_of([line.get(task) for task in tasks], len(tasks)))
    }
    partial = any("of " in line["mean"].mark for line in full.values())
    return grid(full, file, title, columns, [OF_13] * partial)


def longbench_tables(all_of: Evaluations) -> Iterator[Table]:
    """Table 4 of the study, with both scorers; the mean is over its 16 tasks, or over those of the E subset."""
    for suite in [*all_of.suites("longbench"), *all_of.suites("longbench_e")]:
        name = "LongBench" + "-E" * (suite.benchmark == "longbench_e")
        for field, words in SCORES["longbench"].items():
            lines = rows_of_suite(all_of, suite, task_of, field)
            tasks = LONGBENCH_16 if suite.benchmark == "longbench" else keys(lines)
            title = f"{name} by task, %: {words}"
            if lines:
                yield with_mean(lines, file_of(suite, field), title, tasks)
                yield from others(lines, file_of(suite, field), title, tasks)
        for field in ("by_length", "lceg_by_length"):
            yield from by_bucket(all_of, suite, field, f"{name} by length of the text in words, mean over tasks, %")


def by_bucket(all_of: Evaluations, suite: Suite, field: str, title: str) -> Iterator[Table]:
    lines = {}
    for who, rows in all_of.select(suite).items():
        cells = [
            {"value": x, "bucket": b, "mark": r.get("mark")} for r in rows for b, x in (r.get(field) or {}).items()
        ]
        if any(cell["value"] is not None for cell in cells):
            found = means([cell for cell in cells if cell["value"] is not None], lambda r: r["bucket"])
            lines[who] = {bucket: number for bucket, number in found.items() if number.value is not None}
    buckets = dict.fromkeys(b for rows in all_of.select(suite).values() for r in rows for b in r.get(field) or {})
    words = SCORES["longbench"]["lceg" if field.startswith("lceg") else "value"]
    yield grid(lines, f"{suite.file}_{field}", f"{title}: {words}", {b: Column(b) for b in buckets})


def others(
    lines: dict[ReportSubject, dict[str, Number]], name: str, title: str, tasks: Sequence[str]
) -> Iterator[Table]:
    """Tasks beside those of the mean: the Chinese ones and lsht."""
    more = [task for task in keys(lines) if task not in tasks]
    if more:
        yield grid(lines, f"{name}_more", f"{title}, the tasks that the study left out", {t: Column(t) for t in more})


def manyshot_tables(all_of: Evaluations) -> Iterator[Table]:
    for suite in all_of.suites("manyshot"):
        lines = rows_of_suite(all_of, suite, lambda r: r["shots"])
        columns = {shots: Column(str(shots)) for shots in keys(lines)}
        yield grid(lines, suite.file, "Many-shot TREC by number of examples in the prompt, %", columns)


def short_tables(all_of: Evaluations) -> Iterator[Table]:
    for suite in all_of.suites("short"):
        lines = rows_of_suite(all_of, suite, lambda r: (r["task"], r.get("metric") or ""))
        columns = {key: Column(" ".join(key).strip()) for key in keys(lines)}
        yield grid(lines, suite.file, "Short tasks, %", columns)


def cost_tables(all_of: Evaluations) -> Iterator[Table]:
    """What the evaluations took. The first row of a task has its seconds, all others 0."""
    columns = {
        "seconds": Column("seconds", 1.0, 0), "tokens_per_second": Column("tokens/s", 1.0, 0),
        "peak_bytes": Column("peak GiB", 2.0**-30, 2),
    }  # fmt: skip
    lines = {who: found for who, rows in all_of.rows.items() if (found := costs(rows))}
    if lines:
        yield grid(lines, "cost", "Cost of the evaluations: all tasks together", columns)


def costs(rows: Sequence[Record]) -> dict[str, Number]:
    tasks = [r for r in rows if r.get("seconds")]
    seconds = sum(r["seconds"] for r in tasks)
    tokens = sum(r["seconds"] * (r.get("tokens_per_second") or 0.0) for r in tasks)
    peak = max((r.get("peak_bytes") or 0 for r in rows), default=0)
    found = {"seconds": seconds, "tokens_per_second": tokens / seconds if seconds else 0.0, "peak_bytes": float(peak)}
    return {name: Number(value) for name, value in found.items() if value}
