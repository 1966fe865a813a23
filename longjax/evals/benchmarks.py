"""The table of all benchmarks: settings and scores by name."""

import importlib
from collections.abc import Sequence
from typing import Any

from longjax.evals.harness import ShortTasks
from longjax.evals.longbench import LongBench
from longjax.evals.manyshot import ManyShot
from longjax.evals.needle import NeedleTest
from longjax.evals.passkey import PasskeyTest
from longjax.evals.perplexity import PerplexityTest
from longjax.evals.requests import Record
from longjax.evals.ruler.tasks import Ruler

MODULES = {
    "perplexity": "perplexity", "needle": "needle", "passkey": "passkey", "ruler": "ruler", "longbench": "longbench",
    "longbench_e": "longbench", "manyshot": "manyshot", "short": "harness",
}  # fmt: skip


def score(records: Sequence[Record]) -> list[Record]:
    """-> rows of the records of one task."""
    name = records[0]["task"].split("/")[0]
    return importlib.import_module(f"longjax.evals.{MODULES[name]}").score(records)


BENCHMARKS: dict[str, Any] = {  # settings of each; the fields are flags
    "perplexity": PerplexityTest, "needle": NeedleTest, "passkey": PasskeyTest, "ruler": Ruler, "longbench": LongBench,
    "manyshot": ManyShot, "short": ShortTasks,
}  # fmt: skip
