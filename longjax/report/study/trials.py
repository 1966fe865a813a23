"""All trials of a study: an arm (what is compared) on a seed (its own base and order of data) with some weights.

trials = read_trials(RUN_DIR, 2048, 16384)
trials.ppl("yarn", 16384)                          Number: mean over seeds, half their range, sampling error
trials.number(ruler(16384), "pi", "raw")           a measure of longjax.report.measures, of chosen weights
trials.number_of_seed(passkey(4096), "pi", 0)      of one seed
trials.versus(ppl(16384), "pi", "yarn")            pi - yarn, over the same questions; None: not both were run
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence

from longjax.evals.records import read_records
from longjax.evals.requests import Record
from longjax.evals.results import read_rows
from longjax.methods.method import CATEGORIES
from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats.bootstrap import Paired, mean_of
from longjax.report.stats.paired import compare_task

# The methods that every test is run for, in the order of tables; all other arms answer single questions.
MAIN = (
    "base", "pi", "ntk_32k", "ntk_64k", "theta", "yarn", "clex", "ntk_frozen", "dynamic_yarn", "longlora", "landmark",
    "lm_infinite", "streaming_llm", "sliding_window", "self_extend", "rerope", "leaky_rerope", "dca",
)  # fmt: skip
CONTROL = "control"  # the base trained on the same tokens at its own length
CONTROLS = (CONTROL, "ntk_frozen_on_control", "self_extend_on_control", "rerope_on_control")
WEIGHTS = ("ema", "given", "raw")  # of those that an arm has, the first are the default
RESAMPLES = 4000
NEGLIGIBLE = 0.001  # of a perplexity: a smaller difference counts as none
Key = tuple[str, str, int]  # arm, weights, seed
RecordsByTask = dict[str, list[Record]]


@dataclasses.dataclass(frozen=True)
class Versus:
    """The difference a - b over the same questions.

    Attributes:
      by_seed: of each seed alone.
      pooled: of the mean over seeds; the questions of all seeds are drawn together.
      negligible: a smaller difference counts as none.

    """

    by_seed: dict[int, Paired]
    pooled: Paired
    negligible: float = 0.0

    @property
    def difference(self) -> float:
        return self.pooled.difference

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval."""
        return self.pooled.interval

    @property
    def significant(self) -> bool:
        """Whether 95 % of the resamples and all seeds are on one side of 0, and the difference is not negligible."""
        low, high = self.interval
        signs = {math.copysign(1, x.difference) for x in self.by_seed.values()}
        return (low > 0 or high < 0) and len(signs) == 1 and abs(self.difference) >= self.negligible


@dataclasses.dataclass(frozen=True, eq=False)
class Trials:
    """All scores of a study.

    Attributes:
      rows: by arm, weights and seed.
      folder: of the run; rows name their records by the path below it.
      trained: the base's context in tokens.
      extended: the length that methods were trained at.

    """

    rows: dict[Key, list[Record]]
    folder: pathlib.Path
    trained: int
    extended: int

    @property
    def arms(self) -> list[str]:
        """Return the arms by category, then in the order of MAIN, then by name."""
        order = {name: i for i, name in enumerate((*MAIN, *CONTROLS))}
        names = {arm for arm, _, _ in self.rows}
        return sorted(names, key=lambda arm: (category_rank(self.kind(arm)), order.get(arm, len(order)), arm))

    @functools.cached_property
    def main(self) -> list[str]:
        """Return the arms of MAIN and CONTROLS that RULER was run for; all of them where it was run for none."""
        known = [arm for arm in self.arms if arm in MAIN or arm in CONTROLS]
        full = {arm for (arm, _, _), rows in self.rows.items() if any(r["benchmark"] == "ruler" for r in rows)}
        return [arm for arm in known if arm in full] or known

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, _, seed in self.rows})

    @property
    def longest(self) -> int:
        """Return twice the extended length, where all methods are evaluated."""
        return 2 * self.extended

    def kind(self, arm: str) -> str:
        """Return the category of an arm's method."""
        return next(rows[0]["kind"] for (name, _, _), rows in self.rows.items() if name == arm)

    def weights(self, arm: str) -> list[str]:
        """Return the kinds of weights that were evaluated, the default first."""
        kinds = {weights for name, weights, _ in self.rows if name == arm}
        return sorted(kinds, key=lambda w: (WEIGHTS.index(w) if w in WEIGHTS else len(WEIGHTS), w))

    def subject(self, arm: str, weights: str | None = None, label: str = "") -> ReportSubject:
        """Return the head of a table's line."""
        weights = weights or next(iter(self.weights(arm)), "")
        return ReportSubject(arm, weights, self.kind(arm), arm, label or arm)

    def rows_of(self, arm: str, seed: int, weights: str | None = None) -> list[Record]:
        """Return the rows of one trial; []: not run."""
        weights = weights or next(iter(self.weights(arm)), "")
        return self.rows.get((arm, weights, seed), [])

    def number_of_seed(self, measure: Measure, arm: str, seed: int, weights: str | None = None) -> Number | None:
        """Return the number of one trial; None: not run."""
        return measure.number(self.rows_of(arm, seed, weights))

    def number(self, measure: Measure, arm: str, weights: str | None = None) -> Number | None:
        """Return the mean over seeds; None: not run for any."""
        numbers = [self.number_of_seed(measure, arm, seed, weights) for seed in self.seeds]
        return number_over_seeds([x for x in numbers if x is not None], len(self.seeds))

    def value(self, measure: Measure, arm: str, weights: str | None = None) -> float:
        """Return the mean over seeds for arithmetic; NaN: not run, or not finite."""
        number = self.number(measure, arm, weights)
        return math.nan if number is None or number.value is None else number.value

    def seed_folder(self, seed: int) -> pathlib.Path:
        """Return the folder of a seed; of a study of one seed it is the run's."""
        folder = self.folder / f"seed_{seed}"
        return folder if folder.is_dir() else self.folder

    def ppl(self, arm: str, length: int, weights: str | None = None) -> Number | None:
        """Return the perplexity at a context length."""
        return self.number(measures.ppl(length), arm, weights)

    def records(self, measure: Measure, arm: str, seed: int, weights: str | None = None) -> RecordsByTask:
        """Return the records behind a number."""
        paths = {r["records"]: None for r in measure.select(self.rows_of(arm, seed, weights))}
        return {_task_of(path): _records_in(self.folder / path) for path in paths}

    def versus(
        self, measure: Measure, a: str, b: str, weights_a: str | None = None, weights_b: str | None = None
    ) -> Versus | None:
        """Return a - b over the seeds that have both arms; None: there are none, or no question in common."""
        by_seed = {}
        for seed in self.seeds:
            records = self.records(measure, a, seed, weights_a), self.records(measure, b, seed, weights_b)
            if (difference := _difference(measure, *records)) is not None:
                by_seed[seed] = difference
        if not by_seed:
            return None
        pooled = mean_of(list(by_seed.values()))
        return Versus(by_seed, pooled, NEGLIGIBLE * abs(pooled.a) if measure.is_ppl else 0.0)


def read_trials(folder: pathlib.Path, trained: int, extended: int) -> Trials:
    """Read all finished evaluations of a study's folder.

    Args:
      folder: of the run, with a folder for each seed.
      trained: the base's context in tokens.
      extended: the length that methods were trained at.

    Raises:
      ValueError: no evaluation is finished.

    """
    rows: dict[Key, list[Record]] = {}
    for row in read_rows(folder):
        rows.setdefault((row["method"], row["weights"], row.get("seed", 0)), []).append(row)
    if not rows:
        raise ValueError(f"--run_dir={folder} has no finished evaluations: run the study's command again to resume it")
    return Trials(rows, folder, trained, extended)


def category_rank(kind: str) -> int:
    """Return the place of a category in tables."""
    return CATEGORIES.index(kind) if kind in CATEGORIES else len(CATEGORIES)


def number_over_seeds(numbers: Sequence[Number], seeds: int) -> Number | None:
    """Return the mean over seeds; the sampling error is the mean of theirs, as all seeds have the same questions."""
    if not numbers:
        return None
    values = [x.value for x in numbers if x.value is not None]
    errors = [x.stderr for x in numbers if x.stderr is not None]
    marks = sorted({m for x in numbers for m in x.mark.split(",") if m})
    if len(values) < seeds:
        marks.append(f"{len(values)} of {seeds} seeds")
    return Number(
        value=math.fsum(values) / len(values) if values else None,
        stderr=math.fsum(errors) / len(errors) if errors and len(errors) == len(values) else None,
        n=sum(x.n for x in numbers),
        nan=sum(x.nan for x in numbers),
        mark=", ".join(marks),
        half_range=(max(values) - min(values)) / 2 if len(values) > 1 else None,
    )


@functools.lru_cache(maxsize=8192)
def _records_in(path: pathlib.Path) -> list[Record]:
    return read_records(path)[0]


def _task_of(path: str) -> str:
    """-> the part of seed_0/methods/pi/evals/ema/ruler/4096/vt/records.jsonl that all trials share."""
    parts = pathlib.PurePath(path).parts[:-1]
    return "/".join(parts[parts.index("evals") + 2 :] if "evals" in parts else parts)


def _difference(measure: Measure, a: RecordsByTask, b: RecordsByTask) -> Paired | None:
    """-> a - b, every task weighing the same; None: no question in common.

    Tasks are drawn apart, but many-shot has the same questions in all of them.
    """
    parts = []
    for task in sorted(a.keys() & b.keys()):
        first, second = ({r["index"]: r for r in x[task]} for x in (b, a))  # the difference is second minus first
        name = measure.benchmark if measure.benchmark == "manyshot" else f"{measure.benchmark}/{task}"
        compared = compare_task(name, first, second, seed=0, resamples=RESAMPLES)
        parts += [compared.result] if compared is not None else []
    return mean_of(parts) if parts else None
