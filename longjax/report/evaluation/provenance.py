"""Where numbers come from: runs, their checkpoints, and the settings of their tasks."""

from longjax.evals.requests import Record
from longjax.methods.identity import identity_as_call
from longjax.report.evaluation.comparable import brief, flat
from longjax.report.rows import Evaluations, suite_of

# What rows say of their run, where they do.
OF_A_RUN = ("checkpoint", "checkpoint_sha256", "plan", "tokenizer_sha256", "dtype", "trained_len", "extended_len")


def runs(all_of: Evaluations) -> list[list[str]]:
    """-> a table of text: who is which run of which checkpoint."""
    fields = [f for f in OF_A_RUN if any(r.get(f) is not None for rows in all_of.rows.values() for r in rows)]
    body = [
        [who.label, who.kind, who.weights, who.run, *(values(rows, field) for field in fields)]
        for who, rows in all_of.rows.items()
    ]
    return [["method", "kind", "weights", "run", *fields], *body]


def methods(all_of: Evaluations) -> list[str]:
    """-> each method with all its parameters, where runs say them."""
    found = {
        who.label: {identity_as_call(x) for r in rows if (x := r.get("identity") or r.get("described"))}
        for who, rows in all_of.rows.items()
    }
    return [f"- {label}: `{text}`" for label, texts in found.items() for text in sorted(texts)]


def values(rows: list[Record], field: str) -> str:
    return ", ".join(dict.fromkeys(brief(r[field]) for r in rows if r.get(field) is not None)) or "-"


def settings(all_of: Evaluations) -> list[list[str]]:
    """-> a table of text: for each suite, every setting that its rows have, all values."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for rows in all_of.rows.values():
        for row in rows:
            mine = found.setdefault(suite_of(row).title, {})
            for name, value in flat(row.get("settings") or {}).items():
                mine.setdefault(name, {})[brief(value)] = None
    body = [
        [title, name, several(list(values))] for title in sorted(found) for name, values in sorted(found[title].items())
    ]
    return [["benchmark", "setting", "values"], *body] if body else []


def several(texts: list[str]) -> str:
    return ", ".join(texts[:6]) + (f" and {len(texts) - 6} more" if len(texts) > 6 else "")
