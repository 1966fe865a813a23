"""What trials are measured by: the rows of a benchmark in one variant, and how they become one number."""

import dataclasses
from collections.abc import Sequence

from longjax.evals.requests import Record
from longjax.report.aggregates import all_cells, all_shots, thirteen
from longjax.report.rows import Number, field_of, mean_row
from longjax.report.tables import Column

PERPLEXITY = "perplexity"


@dataclasses.dataclass(frozen=True)
class Measure:
    """One column: `name` is its head.

    Attributes:
      variant: what rows or their settings say: (("protocol", "nested"),).
      length: of the context; None: all lengths together.
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
        return [
            r
            for r in rows
            if r["benchmark"] == self.benchmark
            and self.length in (None, r["length"])
            and self.task in (None, r["task"])
            and all(field_of(r, name) == value for name, value in self.variant)
        ]

    def number(self, rows: Sequence[Record]) -> Number | None:
        """-> of one trial's rows; None: it was not asked."""
        mine = self.select(rows)
        if not mine:
            return None
        if self.benchmark == "ruler" and self.task is None:
            return thirteen(self.length)(mine)
        if self.benchmark == "manyshot":
            return all_shots(mine)
        return mean_row(mine, self.field) if self.is_ppl else all_cells(self.field)(mine)


def ppl(length: int, protocol: str = "nested") -> Measure:
    name = f"PPL {length}" if protocol == "nested" else f"PPL {length} {protocol}"
    return Measure(name, PERPLEXITY, (("protocol", protocol),), length, PERPLEXITY)


def needle(length: int | None = None, kind: str = "sentence", bos: str = "clean", field: str = "value") -> Measure:
    """-> the share of facts found, mean over depths and, without a length, over lengths."""
    words = ["needle", *([kind] if kind != "sentence" else []), *([f"bos {bos}"] if bos != "clean" else [])]
    words += [field.replace("_", " ")] * (field != "value") + [str(length)] * (length is not None)
    return Measure(" ".join(words), "needle", (("needle_kind", kind), ("needle_bos", bos)), length, "needle", field)


def passkey(length: int | None = None) -> Measure:
    name = "passkey" if length is None else f"passkey {length}"
    return Measure(name, "passkey", (("variant", "study"),), length, "passkey")


def ruler(length: int, task: str | None = None) -> Measure:
    """-> the mean of 13 tasks, or one of them."""
    return Measure(f"RULER {length}" if task is None else f"{task} {length}", "ruler", (), length, task)


def manyshot() -> Measure:
    return Measure("many-shot", "manyshot")
