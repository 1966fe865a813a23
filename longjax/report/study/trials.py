"""All trials of a study: an arm (what is compared) on a seed (its own base and order of data) with some weights.

trials = read(RUN_DIR, 2048, 16384)
trials.ppl("yarn", 16384)                    Number: mean over seeds, half their range, sampling error
trials.number(ruler(16384), "pi", "raw")     a measure of longjax.report.measures, of chosen weights
trials.of_seed(passkey(4096), "pi", 0)       one seed's
trials.versus(ppl(16384), "pi", "yarn")      pi - yarn, over the same questions; None: not both were run
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence

from longjax.evals.records import read_records as read_records
from longjax.evals.requests import Record
from longjax.evals.results import read_rows
from longjax.methods.method import CATEGORIES
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats.bootstrap import Paired, mean_of
from longjax.report.stats.paired import of_task
from longjax.report.study import measures
from longjax.report.study.measures import Measure

# The methods that every test is put to, in the order of tables; all other arms answer single questions.
MAIN = (
    "base", "pi", "ntk_32k", "ntk_64k", "theta", "yarn", "clex", "ntk_frozen", "dynamic_yarn", "longlora", "landmark",
    "lm_infinite", "streaming_llm", "sliding_window", "self_extend", "rerope", "leaky_rerope", "dca",
)  # fmt: skip
WEIGHTS = ("ema", "given", "raw")  # of those that an arm has, the first are meant where none are named
RESAMPLES = 4000
NEGLIGIBLE = 0.001  # of a perplexity: a smaller difference is none
Key = tuple[str, str, int]  # arm, weights, seed
Answers = dict[str, list[Record]]  # by task


@dataclasses.dataclass(frozen=True)
class Versus:
    """a - b over the same questions, seed by seed; the questions of both seeds are drawn together."""

    by_seed: dict[int, Paired]
    together: Paired
    least: float = 0.0  # what is smaller is no difference

    @property
    def difference(self) -> float:
        return self.together.difference

    @property
    def interval(self) -> tuple[float, float]:
        return self.together.interval

    @property
    def sure(self) -> bool:
        """Whether 95 % of the resamples and all seeds are on one side of 0, and it is not too small to matter."""
        low, high = self.interval
        signs = {math.copysign(1, x.difference) for x in self.by_seed.values()}
        return (low > 0 or high < 0) and len(signs) == 1 and abs(self.difference) >= self.least


@dataclasses.dataclass(frozen=True, eq=False)
class Trials:
    """Everything that a study measured.

    Attributes:
      rows: by arm, weights and seed.
      folder: of the run: rows name their records by their place below it.
      trained: the base's context.
      extended: the length that methods were trained at.

    """

    rows: dict[Key, list[Record]]
    folder: pathlib.Path
    trained: int
    extended: int

    @property
    def arms(self) -> list[str]:
        """-> by kind, then in the order of MAIN, then by name."""
        order = {name: i for i, name in enumerate(MAIN)}
        names = {arm for arm, _, _ in self.rows}
        return sorted(names, key=lambda arm: (rank(self.kind(arm)), order.get(arm, len(MAIN)), arm))

    @functools.cached_property
    def main(self) -> list[str]:
        """-> those of MAIN that were put to RULER; all of MAIN where nobody was."""
        known = [arm for arm in self.arms if arm in MAIN]
        full = {arm for (arm, _, _), rows in self.rows.items() if any(r["benchmark"] == "ruler" for r in rows)}
        return [arm for arm in known if arm in full] or known

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, _, seed in self.rows})

    @property
    def longest(self) -> int:
        return 2 * self.extended

    def kind(self, arm: str) -> str:
        return next(rows[0]["kind"] for (name, _, _), rows in self.rows.items() if name == arm)

    def weights(self, arm: str) -> list[str]:
        """-> those that were evaluated, the ones that are meant first."""
        found = {weights for name, weights, _ in self.rows if name == arm}
        return sorted(found, key=lambda w: (WEIGHTS.index(w) if w in WEIGHTS else len(WEIGHTS), w))

    def subject(self, arm: str, weights: str | None = None, label: str = "") -> ReportSubject:
        """-> who stands at the head of a table's line."""
        weights = weights or next(iter(self.weights(arm)), "")
        return ReportSubject(arm, weights, self.kind(arm), arm, label or arm)

    def of(self, arm: str, seed: int, weights: str | None = None) -> list[Record]:
        """-> the rows of one trial; []: it was not run."""
        weights = weights or next(iter(self.weights(arm)), "")
        return self.rows.get((arm, weights, seed), [])

    def of_seed(self, measure: Measure, arm: str, seed: int, weights: str | None = None) -> Number | None:
        return measure.number(self.of(arm, seed, weights))

    def number(self, measure: Measure, arm: str, weights: str | None = None) -> Number | None:
        """-> the mean over seeds; None: no seed was asked."""
        found = [self.of_seed(measure, arm, seed, weights) for seed in self.seeds]
        return over_seeds([x for x in found if x is not None], len(self.seeds))

    def value(self, measure: Measure, arm: str, weights: str | None = None) -> float:
        """-> the mean over seeds as a number for arithmetic; NaN: not run, or not finite."""
        number = self.number(measure, arm, weights)
        return math.nan if number is None or number.value is None else number.value

    def own(self, seed: int) -> pathlib.Path:
        """-> the folder of a seed; of one seed alone it is the run's."""
        folder = self.folder / f"seed_{seed}"
        return folder if folder.is_dir() else self.folder

    def ppl(self, arm: str, length: int, weights: str | None = None) -> Number | None:
        return self.number(measures.ppl(length), arm, weights)

    def records(self, measure: Measure, arm: str, seed: int, weights: str | None = None) -> Answers:
        """-> the answers behind a number."""
        paths = {r["records"]: None for r in measure.select(self.of(arm, seed, weights))}
        return {task_of(path): records_in(self.folder / path) for path in paths}

    def versus(
        self, measure: Measure, a: str, b: str, weights_a: str | None = None, weights_b: str | None = None
    ) -> Versus | None:
        """-> of the seeds that have both arms; None: there are none, or they were asked nothing in common."""
        parts = {}
        for seed in self.seeds:
            one, two = self.records(measure, a, seed, weights_a), self.records(measure, b, seed, weights_b)
            found = subtracted(measure, one, two)
            parts |= {seed: found} if found is not None else {}
        if not parts:
            return None
        together = mean_of(list(parts.values()))
        return Versus(parts, together, NEGLIGIBLE * abs(together.a) if measure.is_ppl else 0.0)


def read(folder: pathlib.Path, trained: int, extended: int) -> Trials:
    """Raises ValueError if nothing was evaluated yet."""
    rows: dict[Key, list[Record]] = {}
    for row in read_rows(folder):
        rows.setdefault((row["method"], row["weights"], row.get("seed", 0)), []).append(row)
    if not rows:
        raise ValueError(f"--run_dir={folder} has no finished evaluations: run the study's command again, it goes on")
    return Trials(rows, folder, trained, extended)


def rank(kind: str) -> int:
    return CATEGORIES.index(kind) if kind in CATEGORIES else len(CATEGORIES)


def over_seeds(found: Sequence[Number], seeds: int) -> Number | None:
    """-> their mean; the sampling error is the mean of theirs, as all seeds were asked the same questions."""
    if not found:
        return None
    values = [x.value for x in found if x.value is not None]
    errors = [x.stderr for x in found if x.stderr is not None]
    marks = sorted({m for x in found for m in x.mark.split(",") if m})
    marks += [f"{len(values)} of {seeds} seeds"] * (len(values) < seeds)
    return Number(
        value=math.fsum(values) / len(values) if values else None,
        stderr=math.fsum(errors) / len(errors) if errors and len(errors) == len(values) else None,
        n=sum(x.n for x in found),
        nan=sum(x.nan for x in found),
        mark=", ".join(marks),
        half_range=(max(values) - min(values)) / 2 if len(values) > 1 else None,
    )


@functools.lru_cache(maxsize=8192)
def records_in(path: pathlib.Path) -> list[Record]:
    return read_records(path)[0]


def task_of(path: str) -> str:
    """-> of seed_0/methods/pi/evals/ema/ruler/4096/vt/records.jsonl the part that all trials share."""
    parts = pathlib.PurePath(path).parts[:-1]
    return "/".join(parts[parts.index("evals") + 2 :] if "evals" in parts else parts)


def subtracted(measure: Measure, a: Answers, b: Answers) -> Paired | None:
    """-> a - b, every task weighing the same; None: no question was put to both.

    Tasks are drawn apart, but many-shot asks the same questions in all of them.
    """
    found = []
    for task in sorted(a.keys() & b.keys()):
        one, two = ({r["index"]: r for r in x[task]} for x in (a, b))
        name = measure.benchmark if measure.benchmark == "manyshot" else f"{measure.benchmark}/{task}"
        result = of_task(name, two, one, seed=0, resamples=RESAMPLES)  # its difference is the second minus the first
        found += [result.result] if result is not None else []
    return mean_of(found) if found else None
