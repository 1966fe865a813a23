"""The table of all benchmarks, the one place where a benchmark is added."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from longjax.evals import harness, longbench, manyshot, needle, passkey, perplexity, ruler
from longjax.evals.longbench.table import EVEN
from longjax.evals.requests import Record


class Benchmark(NamedTuple):
    """A benchmark.

    Attributes:
      settings: dataclass whose fields are the benchmark's flags; all but `short` have `tasks(ctx)`.
      score: turns the records of one task into rows of results.

    """

    settings: type[Any]
    score: Callable[[Sequence[Record]], list[Record]]


BENCHMARKS = {  # by the first part of a task's name, which LongBench-E extends by EVEN
    "perplexity": Benchmark(perplexity.PerplexityTest, perplexity.score),
    "needle": Benchmark(needle.NeedleTest, needle.score),
    "passkey": Benchmark(passkey.PasskeyTest, passkey.score),
    "ruler": Benchmark(ruler.Ruler, ruler.score),
    "longbench": Benchmark(longbench.LongBench, longbench.score),
    "manyshot": Benchmark(manyshot.ManyShot, manyshot.score),
    "short": Benchmark(harness.ShortTasks, harness.score),
}


def score(records: Sequence[Record]) -> list[Record]:
    """Score the records of one task.

    Args:
      records: at least one, all of the same task.

    Returns:
      Rows of results, each with at least `benchmark`, `task`, `value`, `stderr` and `n`.

    """
    benchmark = records[0]["task"].split("/")[0].removesuffix(EVEN)
    return BENCHMARKS[benchmark].score(records)
