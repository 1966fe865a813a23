"""Rows of scores by who was evaluated and on what. Means over rows carry their standard errors."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from longjax.evals.requests import Record
from longjax.methods.method import CATEGORIES

# What splits the rows of a benchmark into suites whose numbers cannot stand in one table.
SPLITS: dict[str, tuple[str, ...]] = {
    "perplexity": ("protocol", "data"), "passkey": ("variant",), "needle": ("needle_kind", "needle_bos", "haystack"),
    "ruler": ("version",),
}  # fmt: skip
COORDINATES = ("length", "depth", "shots", "position", "metric")  # of a row beside its suite and task
K = TypeVar("K", bound=Hashable)
Key = tuple[str, str, str]  # method, weights, run


@dataclasses.dataclass(frozen=True)
class Number:
    """A mean with its standard error.

    Attributes:
      value: as it was measured: a share in 0..1, perplexity, seconds; None: no window had a finite loss.
      stderr: None where it is not known.
      n: examples.
      nan: windows without a finite loss, which it leaves out.
      mark: what a reader must know: letters of differences, the count of an incomplete mean.
      half_range: of a mean over seeds, half the distance of the lowest and the highest; None: there is one seed.

    """

    value: float | None
    stderr: float | None = None
    n: int = 0
    nan: int = 0
    mark: str = ""
    half_range: float | None = None


@dataclasses.dataclass(frozen=True)
class ReportSubject:
    """Who was evaluated: a method with one kind of weights in one run. `label` is short, and no other has it."""

    method: str
    weights: str
    kind: str
    run: str
    label: str


@dataclasses.dataclass(frozen=True)
class Suite:
    """A benchmark in one of its variants, ("protocol", "lceg"), ("data", "pg19")."""

    benchmark: str
    variant: tuple[tuple[str, Any], ...] = ()

    @property
    def title(self) -> str:
        parts = (f"{name.removeprefix('needle_')} {value}" for name, value in self.variant if value is not None)
        return ", ".join([self.benchmark, *parts])

    @property
    def file(self) -> str:
        """-> a name for files: letters, digits and underscores."""
        words = [self.benchmark, *(str(value) for _, value in self.variant if value is not None)]
        return "_".join("".join(c if c.isalnum() else "_" for c in word) for word in words)

    def get(self, name: str) -> Any:
        return dict(self.variant).get(name)


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """Everything that was measured.

    Attributes:
      rows: of each subject, in the order of tables.
      trained: the context of the base model; None: not known.
      extended: the length at which methods were trained.

    """

    rows: dict[ReportSubject, list[Record]]
    trained: int | None = None
    extended: int | None = None

    def suites(self, benchmark: str) -> list[Suite]:
        """-> those that any subject has, those of most subjects first."""
        count = Counter(s for rows in self.rows.values() for s in {suite_of(r) for r in rows})
        return sorted((s for s in count if s.benchmark == benchmark), key=lambda s: (-count[s], s.title))

    def select(self, suite: Suite, task: str | None = None) -> dict[ReportSubject, list[Record]]:
        """-> the rows of a suite, or of one of its tasks, of the subjects that have any."""
        chosen = {
            s: [r for r in rows if suite_of(r) == suite and task in (None, r["task"])] for s, rows in self.rows.items()
        }
        return {s: rows for s, rows in chosen.items() if rows}


def evaluations(rows: Sequence[Record], trained: int | None = None, extended: int | None = None) -> Evaluations:
    """-> rows by subject: by kind, then by name."""
    by_key: dict[Key, list[Record]] = {}
    for row in rows:
        by_key.setdefault((row["method"], row["weights"], str(row["run"])), []).append(row)
    for key, mine in by_key.items():
        check_once(key, mine)
    rank = {kind: i for i, kind in enumerate(CATEGORIES)}
    found = {subject(key, kind_of(mine), list(by_key)): mine for key, mine in by_key.items()}
    order = sorted(found, key=lambda s: (rank.get(s.kind, len(CATEGORIES)), s.label))
    return Evaluations({who: found[who] for who in order}, trained, extended)


def check_once(key: Key, rows: Sequence[Record]) -> None:
    """Two runs of one name would be taken for one."""
    seen = [(suite_of(r), r["task"], *(r.get(name) for name in COORDINATES)) for r in rows]
    twice = next((cell for cell in seen if seen.count(cell) > 1), None) if len(set(seen)) < len(seen) else None
    if twice is not None:
        method, weights, run = key
        raise ValueError(
            f"--dir holds two runs of {method} ({weights}) that are both called {run}, with {twice[1]} in both: name "
            "their folders apart, or choose a --dir with one of them"
        )


def kind_of(rows: Sequence[Record]) -> str:
    return str(rows[0]["kind"])


def subject(key: Key, kind: str, keys: Sequence[Key]) -> ReportSubject:
    """The label says no more than it must: the method, its weights if others have other ones, the run if need be."""
    method, weights, run = key
    others = [k for k in keys if k[0] == method and k != key]
    words = [method]
    if any(k[1] != weights for k in others):
        words.append(weights)
    if any(k[1] == weights for k in others):
        words.append(f"[{run}]")
    return ReportSubject(method, weights, kind, run, " ".join(words))


def suite_of(row: Record) -> Suite:
    names = SPLITS.get(row["benchmark"], ())
    return Suite(row["benchmark"], tuple((name, field_of(row, name)) for name in names))


def field_of(row: Record, name: str) -> Any:
    """-> what the row says of this, else its settings; None: neither does."""
    return row.get(name, (row.get("settings") or {}).get(name))


def mean_row(rows: Sequence[Record], field: str = "value") -> Number:
    """-> mean over rows, each of which weighs as much; examples of different rows are independent.

    Fields beside "value" have their standard error under <field>_stderr, if anywhere. Where every row is one example,
    it is that of the mean over rows, which is too large if rows differ in difficulty.
    """
    good = [r for r in rows if r.get(field) is not None]
    values = [r[field] for r in good]
    return Number(
        value=math.fsum(values) / len(good) if good else None,
        stderr=error_of(good, values, field),
        n=sum(r.get("n") or 0 for r in rows),
        nan=sum(r.get("nan") or 0 for r in rows),
        mark=",".join(sorted({r["mark"] for r in rows if r.get("mark")})),
    )


def error_of(good: Sequence[Record], values: Sequence[float], field: str) -> float | None:
    errors = [r.get("stderr" if field == "value" else f"{field}_stderr") for r in good]
    known = [e for e in errors if e is not None]
    if len(good) > 1 and not known and all(r.get("n") == 1 for r in good):
        return statistics.stdev(values) / math.sqrt(len(good))
    return math.sqrt(math.fsum(e * e for e in known)) / len(good) if good and len(known) == len(good) else None


def means(rows: Sequence[Record], key: Callable[[Record], K], field: str = "value") -> dict[K, Number]:
    """-> the mean of all rows with the same key. A value of None is no finite loss; other fields were not taken."""
    groups: dict[K, list[Record]] = {}
    for row in rows:
        if field == "value" or row.get(field) is not None:
            groups.setdefault(key(row), []).append(row)
    return {k: mean_row(group, field) for k, group in groups.items()}


def mean_of(numbers: Sequence[Number | None], wanted: int) -> Number | None:
    """-> mean of the numbers that there are; if they are fewer than wanted, it is marked with their count."""
    good = [x for x in numbers if x is not None and x.value is not None]
    if not good:
        return None
    errors = [x.stderr for x in good]
    known = [e for e in errors if e is not None]
    value = math.fsum(x.value for x in good if x.value is not None) / len(good)
    error = math.sqrt(math.fsum(e * e for e in known)) / len(good) if len(known) == len(errors) else None
    marks = sorted({m for x in good for m in x.mark.split(",") if m and not m.startswith("of ")})
    marks += [f"of {len(good)}"] * (len(good) < wanted)
    return Number(value, error, sum(x.n for x in good), mark=",".join(marks))
