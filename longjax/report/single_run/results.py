"""What the rows of a study say of each method. Kinds of methods come with the rows."""

import dataclasses
from collections.abc import Sequence

from longjax.evals.requests import Record
from longjax.methods.method import CATEGORIES

Cells = dict[int, dict[float, Record]]  # by length and depth


@dataclasses.dataclass
class Result:
    """All that is known of one method with one kind of weights (raw or ema)."""

    method: str
    weights: str
    kind: str
    ppl: dict[int, Record] = dataclasses.field(default_factory=dict)  # by length
    keys: Cells = dataclasses.field(default_factory=dict)
    needles: Cells = dataclasses.field(default_factory=dict)
    loss: dict[float, Record] = dataclasses.field(default_factory=dict)  # by position
    seconds: float = 0.0  # training, if any, and all evaluations

    def add(self, row: Record) -> None:
        length = row["length"]
        if row["task"] == "perplexity":
            self.ppl[length] = row
        elif row["task"] == "passkey":
            self.keys.setdefault(length, {})[row["depth"]] = row
        elif row["task"] == "needle":
            self.needles.setdefault(length, {})[row["depth"]] = row
        elif row["task"] == "position_nll":
            self.loss[row["position"]] = row
        self.seconds += row["seconds"]

    def perplexity(self, length: int) -> float:
        value = self.ppl.get(length, {}).get("value")
        return float("nan") if value is None else value

    def passkey(self, length: int) -> float:
        """-> mean over depths."""
        return mean(self.keys.get(length))

    def needle(self, length: int) -> float:
        """-> mean over depths."""
        return mean(self.needles.get(length))


def mean(cells: dict[float, Record] | None) -> float:
    return sum(r["value"] for r in cells.values()) / len(cells) if cells else float("nan")


@dataclasses.dataclass(frozen=True)
class Study:
    """Results in the order of the table; `trained` and `extended` are the two context lengths."""

    results: list[Result]
    trained: int
    extended: int

    @property
    def lengths(self) -> tuple[int, int, int]:
        return self.trained, self.extended, 2 * self.extended

    @property
    def base(self) -> Result | None:
        return next((r for r in self.results if r.kind == "base"), None)

    @property
    def methods(self) -> list[Result]:
        return [r for r in self.results if r.kind != "base"]


def gather(rows: Sequence[Record]) -> list[Result]:
    """-> results by kind, then by the order in which methods first appear."""
    found: dict[tuple[str, str], Result] = {}
    for row in rows:
        key = row["method"], row["weights"]
        found.setdefault(key, Result(*key, row["kind"], seconds=row.get("train_seconds", 0.0))).add(row)
    rank = {kind: i for i, kind in enumerate(CATEGORIES)}
    return sorted(found.values(), key=lambda r: rank.get(r.kind, len(CATEGORIES)))


def preferred(results: Sequence[Result], weights: str = "ema") -> list[Result]:
    """-> one result a method: of these weights where there are any."""
    has = {r.method for r in results if r.weights == weights}
    return [r for r in results if r.weights == weights or r.method not in has]
