"""Provenance of numbers: runs, their checkpoints, and the settings of their tasks."""

from longjax.evals.requests import Record
from longjax.methods.identity import identity_as_call
from longjax.report.evaluation.comparable import brief, flat
from longjax.report.rows import Evaluations, suite_of

RUN_FIELDS = ("checkpoint", "checkpoint_sha256", "plan", "tokenizer_sha256", "dtype", "trained_len", "extended_len")


def run_table(evals: Evaluations) -> list[list[str]]:
    """Return a table of text: which subject is which run of which checkpoint."""
    fields = [f for f in RUN_FIELDS if any(r.get(f) is not None for rows in evals.rows.values() for r in rows)]
    body = [
        [who.label, who.kind, who.weights, who.run, *(_values(rows, field) for field in fields)]
        for who, rows in evals.rows.items()
    ]
    return [["method", "kind", "weights", "run", *fields], *body]


def method_lines(evals: Evaluations) -> list[str]:
    """Return a list item for each method with all its parameters, where runs have recorded them."""
    texts_by_label = {
        who.label: {identity_as_call(x) for r in rows if (x := r.get("identity") or r.get("described"))}
        for who, rows in evals.rows.items()
    }
    return [f"- {label}: `{text}`" for label, texts in texts_by_label.items() for text in sorted(texts)]


def _values(rows: list[Record], field: str) -> str:
    return ", ".join(dict.fromkeys(brief(r[field]) for r in rows if r.get(field) is not None)) or "-"


def settings_table(evals: Evaluations) -> list[list[str]]:
    """Return a table of text: every setting of each suite with all its values; empty: no run has recorded any."""
    by_suite: dict[str, dict[str, dict[str, None]]] = {}
    for rows in evals.rows.values():
        for row in rows:
            values_by_name = by_suite.setdefault(suite_of(row).title, {})
            for name, value in flat(row.get("settings") or {}).items():
                values_by_name.setdefault(name, {})[brief(value)] = None
    body = [
        [title, name, _listed(list(values))]
        for title in sorted(by_suite)
        for name, values in sorted(by_suite[title].items())
    ]
    return [["benchmark", "setting", "values"], *body] if body else []


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:6]) + (f" and {len(texts) - 6} more" if len(texts) > 6 else "")
