"""What methods are measured by: the rows of a benchmark in one variant, and how they become one number."""

import dataclasses
import math
from collections.abc import Sequence

from longjax.evals.requests import Record
from longjax.report.aggregates import mean_of_cells, mean_of_shots, ruler_mean
from longjax.report.rows import Number, field_of, mean_row
from longjax.report.tables import Column

PERPLEXITY = "perplexity"


@dataclasses.dataclass(frozen=True)
class Measure:
    """One column of a table; `name` is its head.

    Attributes:
      variant: values that the rows or their settings must have: (("protocol", "nested"),).
      length: of the context in tokens; None: all lengths together.
      task: one of RULER's; None: the mean of all.
      field: of the rows: "value", "word_overlap" ...

    """

    name: str
    benchmark: str
    variant: tuple[tuple[str, str], ...] = ()
    length: int | None = None
    task: str | None = None
    field: str = "value"

    @property
    def is_ppl(self) -> bool:
        return self.benchmark == PERPLEXITY

    @property
    def column(self) -> Column:
        return Column(self.name, 1.0, 2) if self.is_ppl else Column(self.name)

    def select(self, rows: Sequence[Record]) -> list[Record]:
        """Return the rows that the number is made of."""
        return [
            r
            for r in rows
            if r["benchmark"] == self.benchmark
            and self.length in (None, r["length"])
            and self.task in (None, r["task"])
            and all(field_of(r, name) == value for name, value in self.variant)
        ]

    def number(self, rows: Sequence[Record]) -> Number | None:
        """Return the number of one run's rows; None: not run."""
        selected = self.select(rows)
        if not selected:
            return None
        if self.benchmark == "ruler" and self.task is None:
            return ruler_mean(self.length)(selected)
        if self.benchmark == "manyshot":
            return mean_of_shots(selected)
        return mean_row(selected, self.field) if self.is_ppl else mean_of_cells(self.field)(selected)

    def value(self, rows: Sequence[Record]) -> float:
        """Return the number for arithmetic; NaN: not run, or not finite."""
        number = self.number(rows)
        return math.nan if number is None or number.value is None else number.value


def ppl(length: int, protocol: str = "nested") -> Measure:
    """Perplexity at a context length."""
    name = f"PPL {length}" if protocol == "nested" else f"PPL {length} {protocol}"
    return Measure(name, PERPLEXITY, (("protocol", protocol),), length, PERPLEXITY)


def needle(length: int | None = None, kind: str = "sentence", bos: str = "clean", field: str = "value") -> Measure:
    """Share of a needle's facts that are found, mean over depths and, without a length, over lengths."""
    words = ["needle", *([kind] if kind != "sentence" else []), *([f"bos {bos}"] if bos != "clean" else [])]
    words += [field.replace("_", " ")] if field != "value" else []
    words += [str(length)] if length is not None else []
    return Measure(" ".join(words), "needle", (("needle_kind", kind), ("needle_bos", bos)), length, "needle", field)


def passkey(length: int | None = None) -> Measure:
    """Share of pass keys retrieved, mean over depths and, without a length, over lengths."""
    name = "passkey" if length is None else f"passkey {length}"
    return Measure(name, "passkey", (("variant", "study"),), length, "passkey")


def ruler(length: int, task: str | None = None) -> Measure:
    """RULER's mean of 13 tasks, or one of them."""
    return Measure(f"RULER {length}" if task is None else f"{task} {length}", "ruler", (), length, task)


def manyshot() -> Measure:
    """Accuracy on many-shot TREC, mean over numbers of shots."""
    return Measure("many-shot", "manyshot")
