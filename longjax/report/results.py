"""What the records of a study say of each method. Kinds of methods come with the records."""

import dataclasses
from collections.abc import Sequence

from longjax.evals.task import Record

KINDS: tuple[str, ...] = ("base", "exact trained", "exact frozen", "approximate trained", "approximate frozen")


@dataclasses.dataclass
class Result:
    """All that is known of one method with one kind of weights (raw or ema)."""

    method: str
    weights: str
    kind: str
    ppl: dict[int, Record] = dataclasses.field(default_factory=dict)  # by length
    keys: dict[int, dict[float, Record]] = dataclasses.field(default_factory=dict)  # by length and depth
    loss: dict[float, Record] = dataclasses.field(default_factory=dict)  # by position
    seconds: float = 0.0  # training, if any, and all evaluations

    def add(self, record: Record) -> None:
        length = record["length"]
        if record["task"] == "perplexity":
            self.ppl[length] = record
        elif record["task"] == "passkey":
            self.keys.setdefault(length, {})[record["depth"]] = record
        elif record["task"] == "position_nll":
            self.loss[record["position"]] = record
        self.seconds += record.get("seconds", 0.0)

    def perplexity(self, length: int) -> float:
        value = self.ppl.get(length, {}).get("value")
        return float("nan") if value is None else value

    def passkey(self, length: int) -> float:
        """-> mean over depths."""
        cells = self.keys.get(length)
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


def gather(records: Sequence[Record]) -> list[Result]:
    """-> results by kind, then by the order in which methods first appear."""
    found: dict[tuple[str, str], Result] = {}
    for record in records:
        key = record["method"], record["weights"]
        result = found.setdefault(key, Result(*key, record["kind"], seconds=record.get("train_seconds", 0.0)))
        result.add(record)
    rank = {kind: i for i, kind in enumerate(KINDS)}
    return sorted(found.values(), key=lambda r: rank.get(r.kind, len(KINDS)))


def preferred(results: Sequence[Result], weights: str = "ema") -> list[Result]:
    """-> one result a method: of these weights where there are any."""
    has = {r.method for r in results if r.weights == weights}
    return [r for r in results if r.weights == weights or r.method not in has]
