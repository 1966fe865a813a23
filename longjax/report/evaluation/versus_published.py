"""Our numbers beside published ones, where method, length, protocol and scorer are the same."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from longjax.evals.requests import Record
from longjax.report.aggregates import all_cells, all_shots, complete_only, sixteen, thirteen
from longjax.report.published import PUBLISHED, Published
from longjax.report.rows import Evaluations, Number, ReportSubject, field_of, mean_row
from longjax.report.tables import Column, Table

PAPER, LLAMA2_7B = "arXiv:2409.12181", "32 layers of 4096"


class Match(NamedTuple):
    """Our number, or why there is none that can stand beside the published one."""

    number: Number | None
    why: str = ""


def published_table(all_of: Evaluations) -> tuple[Table | None, list[str]]:
    """-> the table of pairs; why the other published numbers are not shown."""
    found: dict[tuple[str, int], dict[ReportSubject, tuple[Number, Published]]] = {}
    reasons: dict[str, dict[str, list[str]]] = {}
    for one in PUBLISHED:
        for who in [s for s in all_of.rows if s.method == one.method]:
            why = other_model(all_of.rows[who])
            match = Match(None, why) if why else MATCHES[one.column](all_of.rows[who], one)
            if match.number is None:
                reasons.setdefault(match.why, {}).setdefault(f"{one.column} at {one.length}", []).append(who.label)
            else:
                found.setdefault((one.column, one.length), {})[who] = match.number, one
    return published_pairs(all_of, found) if found else None, grouped(reasons)


def published_pairs(
    all_of: Evaluations, found: dict[tuple[str, int], dict[ReportSubject, tuple[Number, Published]]]
) -> Table:
    columns, tables = [], sorted({one.table for x in found.values() for _, one in x.values()})
    for column, length in found:
        scale, decimals = (1.0, 2) if column == "PPL" else (100.0, 1)
        at = f"{column} {length}"
        columns += [Column(f"{at} here", scale, decimals), Column(f"{at} published", scale, 2)]
    lines = []
    for who in [s for s in all_of.rows if any(s in x for x in found.values())]:
        numbers: list[Number | None] = []
        for (column, _), x in found.items():
            ours, one = x.get(who, (None, None))
            numbers += [ours, Number(one.value / (1 if column == "PPL" else 100)) if one else None]
        lines.append((who, tuple(numbers)))
    source = f"Published: {PAPER}, LLaMA-2 7B, table{'s' * (len(tables) > 1)} {' and '.join(map(str, tables))}."
    scored = "Here as the study scores: needle by word overlap, LongBench by its first lines. How it averaged the "
    scored += "needle's cells and the numbers of shots, its code does not say: here it is the mean of all."
    return Table("published", "Beside the published numbers", tuple(columns), tuple(lines), (source, scored))


def grouped(reasons: dict[str, dict[str, list[str]]]) -> list[str]:
    """-> a line a reason."""
    lines = []
    for why, places in reasons.items():
        what = "; ".join(f"{place} ({', '.join(labels)})" for place, labels in places.items())
        lines.append(f"Not beside a published number, {why}: {what}.")
    return lines


def rows_of(rows: Sequence[Record], benchmark: str, task: str | None = None) -> list[Record]:
    return [r for r in rows if r["benchmark"] == benchmark and task in (None, r["task"])]


def unlike(rows: Sequence[Record], name: str, wanted: Any) -> str:
    """-> what the rows have instead; empty if it is what is wanted."""
    values = {repr(field_of(r, name)) for r in rows}
    return "" if values == {repr(wanted)} else f"{name} is {', '.join(sorted(values))}, the paper's {wanted!r}"


def other_model(rows: Sequence[Record]) -> str:
    models = {r.get("model", "not known") for r in rows}
    return "" if models == {LLAMA2_7B} else f"the model is {', '.join(sorted(models))}, the paper's LLaMA-2 7B"


def own_prompts(rows: Sequence[Record]) -> str:
    own = any((r.get("settings") or {}).get("prompts", "own") == "own" for r in rows)
    return "the prompts are of our own wording" if own else ""


def drawn_at_random(rows: Sequence[Record]) -> str:
    """-> whether examples are other ones than in the study's files."""
    files = all((r.get("settings") or {}).get("examples", "file") == "file" for r in rows)
    return "" if files else "the examples were drawn by us"


def cut_elsewhere(rows: Sequence[Record], length: int) -> str:
    """-> whether longer prompts lose their middle at another length than the study's."""
    lengths = sorted({str((r.get("settings") or {}).get("max_length")) for r in rows})
    return "" if lengths == [str(length)] else f"prompts of at most {', '.join(lengths)} tokens, the paper's {length}"


def match_ppl(rows: Sequence[Record], one: Published) -> Match:
    mine = rows_of(rows, "perplexity", "perplexity")
    if not mine:
        return Match(None, "not run")
    lceg = [r for r in mine if r.get("protocol") == "lceg"]
    books = [r for r in lceg if "pg19" in str(r.get("data")).lower().replace("-", "")]
    here = [r for r in books if r["length"] == one.length]
    if not books:
        return Match(None, "the paper's protocol is lceg" if not lceg else "the paper's data are PG19")
    return Match(mean_row(here)) if here else Match(None, f"not run at {one.length}")


def match_needle(rows: Sequence[Record], one: Published) -> Match:
    mine = rows_of(rows, "needle")
    lceg = [r for r in mine if field_of(r, "needle_bos") == "lceg" and field_of(r, "needle_kind") == "sentence"]
    if not lceg:
        why = unlike(mine, "needle_kind", "sentence") or unlike(mine, "needle_bos", "lceg")
        return Match(None, why if mine else "not run")
    if max(r["length"] for r in lceg) < one.length:
        return Match(None, f"no needle at {one.length} or beyond")
    number = all_cells("word_overlap")(lceg)
    return Match(number, "" if number else "no word overlap in the rows")


def match_manyshot(rows: Sequence[Record], one: Published) -> Match:
    mine = rows_of(rows, "manyshot")
    if not mine:
        return Match(None, "not run")
    why = cut_elsewhere(mine, one.length) or own_prompts(mine) or drawn_at_random(mine)
    return Match(None, why) if why else Match(all_shots(mine))


def match_longbench(rows: Sequence[Record], one: Published) -> Match:
    mine = rows_of(rows, "longbench")
    if not mine:
        return Match(None, "not run")
    why = cut_elsewhere(mine, one.length) or own_prompts(mine)
    return Match(None, why) if why else complete(sixteen("lceg")(mine), "not all of the study's 16 tasks were run")


def match_ruler(rows: Sequence[Record], one: Published) -> Match:
    mine = rows_of(rows, "ruler")
    old = [r for r in mine if field_of(r, "version") == "2024"]
    if not old:
        return Match(None, unlike(mine, "version", "2024") if mine else "not run")
    if why := own_prompts(old):
        return Match(None, why)
    if not any(r["length"] == one.length for r in old):
        return Match(None, f"not run at {one.length}")
    return complete(thirteen(one.length)(old), "not all of the 13 tasks were run")


def complete(number: Number | None, why: str) -> Match:
    return Match(number) if complete_only(number) else Match(None, why)


MATCHES = {
    "PPL": match_ppl,
    "needle": match_needle,
    "many-shot": match_manyshot,
    "LongBench": match_longbench,
    "RULER": match_ruler,
}
