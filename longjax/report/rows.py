"""The data model of reports: rows of scores by method and benchmark. Means over rows carry their standard errors."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from longjax.evals.requests import Record
from longjax.methods.method import CATEGORIES

# Fields that split the rows of a benchmark into suites, whose numbers cannot stand in one table.
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
      value: in the unit of the measurement: a share in 0..1, perplexity, seconds; None: no window had a finite loss.
      stderr: standard error; None: not known.
      n: number of examples.
      nan: number of windows without a finite loss, which the mean leaves out.
      mark: notes for the reader: letters of differing settings, the count of an incomplete mean.
      half_range: of a mean over seeds, half the distance of the lowest and the highest; None: a single seed.

    """

    value: float | None
    stderr: float | None = None
    n: int = 0
    nan: int = 0
    mark: str = ""
    half_range: float | None = None


@dataclasses.dataclass(frozen=True)
class ReportSubject:
    """A line of a table: a method with one kind of weights in one run. `label` is short and unique."""

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
        """Return the name for readers: "perplexity, protocol lceg, data pg19"."""
        parts = (f"{name.removeprefix('needle_')} {value}" for name, value in self.variant if value is not None)
        return ", ".join([self.benchmark, *parts])

    @property
    def file(self) -> str:
        """Return the name for files: letters, digits and underscores."""
        words = [self.benchmark, *(str(value) for _, value in self.variant if value is not None)]
        return "_".join("".join(c if c.isalnum() else "_" for c in word) for word in words)

    def get(self, name: str) -> Any:
        """Return a field of the variant; None: the suite has no such field."""
        return dict(self.variant).get(name)


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """All rows of a report.

    Attributes:
      rows: by subject, in the order of tables.
      trained: the context of the base model in tokens; None: not known.
      extended: the length at which methods were trained; None: not known.

    """

    rows: dict[ReportSubject, list[Record]]
    trained: int | None = None
    extended: int | None = None

    def suites(self, benchmark: str) -> list[Suite]:
        """Return the suites of a benchmark, those of most subjects first."""
        count = Counter(s for rows in self.rows.values() for s in {suite_of(r) for r in rows})
        return sorted((s for s in count if s.benchmark == benchmark), key=lambda s: (-count[s], s.title))

    def select(self, suite: Suite, task: str | None = None) -> dict[ReportSubject, list[Record]]:
        """Return the rows of a suite, or of one of its tasks, by subject; subjects without any are left out."""
        selected = {
            s: [r for r in rows if suite_of(r) == suite and task in (None, r["task"])] for s, rows in self.rows.items()
        }
        return {s: rows for s, rows in selected.items() if rows}


def evaluations(rows: Sequence[Record], trained: int | None = None, extended: int | None = None) -> Evaluations:
    """Group rows by subject, in the order of categories, then of names.

    Args:
      rows: as `longjax.evals.results.read_rows` returns them.
      trained: the context of the base model; None: not known.
      extended: the length at which methods were trained; None: not known.

    Raises:
      ValueError: two runs have the same method, weights and name.

    """
    by_key: dict[Key, list[Record]] = {}
    for row in rows:
        by_key.setdefault((row["method"], row["weights"], str(row["run"])), []).append(row)
    for key, run_rows in by_key.items():
        _check_once(key, run_rows)
    rank = {kind: i for i, kind in enumerate(CATEGORIES)}
    by_subject = {_subject(key, str(rows[0]["kind"]), list(by_key)): rows for key, rows in by_key.items()}
    order = sorted(by_subject, key=lambda s: (rank.get(s.kind, len(CATEGORIES)), s.label))
    return Evaluations({who: by_subject[who] for who in order}, trained, extended)


def _check_once(key: Key, rows: Sequence[Record]) -> None:
    """Two runs of one name would be taken for one."""
    seen = [(suite_of(r), r["task"], *(r.get(name) for name in COORDINATES)) for r in rows]
    twice = next((cell for cell in seen if seen.count(cell) > 1), None) if len(set(seen)) < len(seen) else None
    if twice is not None:
        method, weights, run = key
        raise ValueError(
            f"--dir holds two runs of {method} ({weights}) that are both called {run}, with {twice[1]} in both: name "
            "their folders apart, or choose a --dir with one of them"
        )


def _subject(key: Key, kind: str, keys: Sequence[Key]) -> ReportSubject:
    """The label is the method, with its weights and run only where others of the method differ in them."""
    method, weights, run = key
    others = [k for k in keys if k[0] == method and k != key]
    words = [method]
    if any(k[1] != weights for k in others):
        words.append(weights)
    if any(k[1] == weights for k in others):
        words.append(f"[{run}]")
    return ReportSubject(method, weights, kind, run, " ".join(words))


def suite_of(row: Record) -> Suite:
    """Return the suite that a row belongs to."""
    names = SPLITS.get(row["benchmark"], ())
    return Suite(row["benchmark"], tuple((name, field_of(row, name)) for name in names))


def field_of(row: Record, name: str) -> Any:
    """Return a field of the row, else of its settings; None: neither has it."""
    return row.get(name, (row.get("settings") or {}).get(name))


def mean_row(rows: Sequence[Record], field: str = "value") -> Number:
    """Return the mean over rows, each of the same weight; examples of different rows are independent.

    Fields beside "value" have their standard error under <field>_stderr, if anywhere. Where every row is one example,
    it is that of the mean over rows, which is too large if rows differ in difficulty.
    """
    finite = [r for r in rows if r.get(field) is not None]
    values = [r[field] for r in finite]
    return Number(
        value=math.fsum(values) / len(finite) if finite else None,
        stderr=_stderr_of(finite, values, field),
        n=sum(r.get("n") or 0 for r in rows),
        nan=sum(r.get("nan") or 0 for r in rows),
        mark=",".join(sorted({r["mark"] for r in rows if r.get("mark")})),
    )


def _stderr_of(rows: Sequence[Record], values: Sequence[float], field: str) -> float | None:
    errors = [r.get("stderr" if field == "value" else f"{field}_stderr") for r in rows]
    known = [e for e in errors if e is not None]
    if len(rows) > 1 and not known and all(r.get("n") == 1 for r in rows):
        return statistics.stdev(values) / math.sqrt(len(rows))
    return math.sqrt(math.fsum(e * e for e in known)) / len(rows) if rows and len(known) == len(rows) else None


def means(rows: Sequence[Record], key: Callable[[Record], K], field: str = "value") -> dict[K, Number]:
    """Return the means of rows with the same key. A "value" of None is a loss that is not finite and is counted."""
    groups: dict[K, list[Record]] = {}
    for row in rows:
        if field == "value" or row.get(field) is not None:
            groups.setdefault(key(row), []).append(row)
    return {k: mean_row(group, field) for k, group in groups.items()}


def mean_of(numbers: Sequence[Number | None], wanted: int) -> Number | None:
    """Return the mean of the known numbers, marked with their count if they are fewer than wanted; None: none is."""
    finite = [x for x in numbers if x is not None and x.value is not None]
    if not finite:
        return None
    errors = [x.stderr for x in finite]
    known = [e for e in errors if e is not None]
    value = math.fsum(x.value for x in finite if x.value is not None) / len(finite)
    error = math.sqrt(math.fsum(e * e for e in known)) / len(finite) if len(known) == len(errors) else None
    marks = sorted({m for x in finite for m in x.mark.split(",") if m and not m.startswith("of ")})
    if len(finite) < wanted:
        marks.append(f"of {len(finite)}")
    return Number(value, error, sum(x.n for x in finite), mark=",".join(marks))
