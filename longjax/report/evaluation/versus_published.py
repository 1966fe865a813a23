"""Our numbers beside published ones, where method, length, protocol and scorer are the same."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from longjax.evals.requests import Record
from longjax.report.aggregates import is_complete, longbench_mean, mean_of_cells, mean_of_shots, ruler_mean
from longjax.report.published import PUBLISHED, Published
from longjax.report.rows import Evaluations, Number, ReportSubject, field_of, mean_row
from longjax.report.tables import Column, Table

PAPER, LLAMA2_7B = "arXiv:2409.12181", "32 layers of 4096"
Pairs = dict[tuple[str, int], dict[ReportSubject, tuple[Number, Published]]]  # by column and length


class Match(NamedTuple):
    """Our number, or why none can stand beside the published one."""

    number: Number | None
    why: str = ""


def published_table(evals: Evaluations) -> tuple[Table | None, list[str]]:
    """Return the table of pairs, and why other published numbers are not shown."""
    pairs: Pairs = {}
    reasons: dict[str, dict[str, list[str]]] = {}
    for published in PUBLISHED:
        for who in [s for s in evals.rows if s.method == published.method]:
            why = _other_model(evals.rows[who])
            match = Match(None, why) if why else MATCHES[published.column](evals.rows[who], published)
            cell = published.column, published.length
            if match.number is None:
                reasons.setdefault(match.why, {}).setdefault("{} at {}".format(*cell), []).append(who.label)
            else:
                pairs.setdefault(cell, {})[who] = match.number, published
    return _table_of(evals, pairs) if pairs else None, _reason_lines(reasons)


def _table_of(evals: Evaluations, pairs: Pairs) -> Table:
    columns, tables = [], sorted({published.table for cell in pairs.values() for _, published in cell.values()})
    for column, length in pairs:
        scale, decimals = (1.0, 2) if column == "PPL" else (100.0, 1)
        head = f"{column} {length}"
        columns += [Column(f"{head} here", scale, decimals), Column(f"{head} published", scale, 2)]
    lines = []
    for who in [s for s in evals.rows if any(s in cell for cell in pairs.values())]:
        numbers: list[Number | None] = []
        for (column, _), cell in pairs.items():
            ours, published = cell.get(who, (None, None))
            numbers += [ours, Number(published.value / (1 if column == "PPL" else 100)) if published else None]
        lines.append((who, tuple(numbers)))
    plural = "s" if len(tables) > 1 else ""
    source = f"Published: {PAPER}, LLaMA-2 7B, table{plural} {' and '.join(map(str, tables))}."
    scored = (
        "Here as the study scores: needle by word overlap, LongBench by its first lines. Its code does not show how "
    )
    scored += "it averaged the needle's cells and the numbers of shots: here it is the mean of all."
    return Table("published", "Beside the published numbers", tuple(columns), tuple(lines), (source, scored))


def _reason_lines(reasons: dict[str, dict[str, list[str]]]) -> list[str]:
    lines = []
    for why, labels_by_cell in reasons.items():
        cells = "; ".join(f"{cell} ({', '.join(labels)})" for cell, labels in labels_by_cell.items())
        lines.append(f"Not beside a published number, {why}: {cells}.")
    return lines


def _rows_of(rows: Sequence[Record], benchmark: str, task: str | None = None) -> list[Record]:
    return [r for r in rows if r["benchmark"] == benchmark and task in (None, r["task"])]


def _mismatch(rows: Sequence[Record], name: str, wanted: Any) -> str:
    """-> the value that the rows have instead; empty if it is the wanted one."""
    values = {repr(field_of(r, name)) for r in rows}
    return "" if values == {repr(wanted)} else f"{name} is {', '.join(sorted(values))}, the paper's {wanted!r}"


def _other_model(rows: Sequence[Record]) -> str:
    models = {r.get("model", "not known") for r in rows}
    return "" if models == {LLAMA2_7B} else f"the model is {', '.join(sorted(models))}, the paper's LLaMA-2 7B"


def _other_prompts(rows: Sequence[Record]) -> str:
    own = any((r.get("settings") or {}).get("prompts", "own") == "own" for r in rows)
    return "the prompts are of our own wording" if own else ""


def _other_examples(rows: Sequence[Record]) -> str:
    """-> whether examples are other ones than in the study's files."""
    from_files = all((r.get("settings") or {}).get("examples", "file") == "file" for r in rows)
    return "" if from_files else "the examples were drawn by us"


def _other_truncation(rows: Sequence[Record], length: int) -> str:
    """-> whether longer prompts lose their middle at another length than the study's."""
    lengths = sorted({str((r.get("settings") or {}).get("max_length")) for r in rows})
    return "" if lengths == [str(length)] else f"prompts of at most {', '.join(lengths)} tokens, the paper's {length}"


def _match_ppl(rows: Sequence[Record], published: Published) -> Match:
    ppl_rows = _rows_of(rows, "perplexity", "perplexity")
    if not ppl_rows:
        return Match(None, "not run")
    lceg = [r for r in ppl_rows if r.get("protocol") == "lceg"]
    books = [r for r in lceg if "pg19" in str(r.get("data")).lower().replace("-", "")]
    at_length = [r for r in books if r["length"] == published.length]
    if not books:
        return Match(None, "the paper's data are PG19" if lceg else "the paper's protocol is lceg")
    return Match(mean_row(at_length)) if at_length else Match(None, f"not run at {published.length}")


def _match_needle(rows: Sequence[Record], published: Published) -> Match:
    needle_rows = _rows_of(rows, "needle")
    lceg = [r for r in needle_rows if field_of(r, "needle_bos") == "lceg" and field_of(r, "needle_kind") == "sentence"]
    if not lceg:
        why = _mismatch(needle_rows, "needle_kind", "sentence") or _mismatch(needle_rows, "needle_bos", "lceg")
        return Match(None, why if needle_rows else "not run")
    if max(r["length"] for r in lceg) < published.length:
        return Match(None, f"no needle at {published.length} or beyond")
    number = mean_of_cells("word_overlap")(lceg)
    return Match(number, "" if number else "no word overlap in the rows")


def _match_manyshot(rows: Sequence[Record], published: Published) -> Match:
    shot_rows = _rows_of(rows, "manyshot")
    if not shot_rows:
        return Match(None, "not run")
    why = _other_truncation(shot_rows, published.length) or _other_prompts(shot_rows) or _other_examples(shot_rows)
    return Match(None, why) if why else Match(mean_of_shots(shot_rows))


def _match_longbench(rows: Sequence[Record], published: Published) -> Match:
    task_rows = _rows_of(rows, "longbench")
    if not task_rows:
        return Match(None, "not run")
    if why := _other_truncation(task_rows, published.length) or _other_prompts(task_rows):
        return Match(None, why)
    return _if_complete(longbench_mean("lceg")(task_rows), "not all of the study's 16 tasks were run")


def _match_ruler(rows: Sequence[Record], published: Published) -> Match:
    task_rows = _rows_of(rows, "ruler")
    old = [r for r in task_rows if field_of(r, "version") == "2024"]
    if not old:
        return Match(None, _mismatch(task_rows, "version", "2024") if task_rows else "not run")
    if why := _other_prompts(old):
        return Match(None, why)
    if not any(r["length"] == published.length for r in old):
        return Match(None, f"not run at {published.length}")
    return _if_complete(ruler_mean(published.length)(old), "not all of the 13 tasks were run")


def _if_complete(number: Number | None, why: str) -> Match:
    return Match(number) if is_complete(number) else Match(None, why)


MATCHES = {
    "PPL": _match_ppl,
    "needle": _match_needle,
    "many-shot": _match_manyshot,
    "LongBench": _match_longbench,
    "RULER": _match_ruler,
}
