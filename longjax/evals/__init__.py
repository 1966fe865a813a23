"""The benchmarks, each a module with its settings (what is asked) and its `score` (what the answers are worth)."""

import importlib
from collections.abc import Sequence

from longjax.evals.questions import Record

MODULES = {
    "perplexity": "perplexity", "needle": "needle", "passkey": "passkey", "ruler": "ruler", "longbench": "longbench",
    "longbench_e": "longbench", "manyshot": "manyshot", "short": "harness",
}  # fmt: skip


def score(records: Sequence[Record]) -> list[Record]:
    """-> rows of the records of one task."""
    name = records[0]["task"].split("/")[0]
    return importlib.import_module(f"longjax.evals.{MODULES[name]}").score(records)
