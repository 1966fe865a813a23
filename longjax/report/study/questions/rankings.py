"""Two rankings of the same methods side by side: trained with float32 tables, and with rounded ones."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from longjax.report.measures import Measure
from longjax.report.published import published_column
from longjax.report.rows import Number
from longjax.report.study import recovery
from longjax.report.study.main_table import ranked
from longjax.report.study.questions.comparisons import verdict
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

ROUNDED = "_ds_bf16"
RIVALS = ("ntk_64k", "clex")  # the same arms in both rankings


def _contestants(trials: Trials, arms: Sequence[str], rounded: bool) -> dict[str, str]:
    """-> method: the arm that stands for it."""
    suffix = ROUNDED if rounded else ""
    return {arm: arm + suffix for arm in arms} | {arm: arm for arm in RIVALS if arm in trials.arms}


def ranking_table(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> Table:
    """Return a line a method: its numbers and places in both rankings, beside the paper's RULER."""
    columns, lines, paper = [], [], published_column("RULER")
    rankings = [_contestants(trials, arms, rounded) for rounded in (False, True)]
    for m in measures:
        for tables in ("float32", "bf16"):
            head = m.column
            columns += [Column(f"{m.name} {tables}", head.scale, head.decimals), Column(f"place {tables}", 1.0, 0)]
    for method in rankings[0]:
        cells: list[Number | None] = []
        for m in measures:
            for arm_of in rankings:
                ordered, arm = ranked(trials, m, list(arm_of.values())), arm_of[method]
                equal = next((x for x in ordered if trials.value(m, x) == trials.value(m, arm)), None)
                cells += [trials.number(m, arm), None if equal is None else Number(ordered.index(equal) + 1.0)]
        cells.append(Number(paper[method]) if method in paper else None)
        lines.append((trials.subject(method), tuple(cells)))
    columns.append(Column("RULER 32768, the paper's Table 1", 1.0, 2))
    note = "The best is at place 1, equals share theirs. bf16: methods of the table above trained with rounded tables, "
    note += "the others as is."
    return Table("a_ranking", "Both rankings side by side", tuple(columns), tuple(lines), (note,))


class LeadChange(NamedTuple):
    """Of two methods, who leads significantly before and after: 1 the first, -1 the second, 0 neither."""

    a: str
    b: str
    before: int
    after: int

    @property
    def pair(self) -> str:
        return f"{self.a} over {self.b}" if (self.before or self.after) > 0 else f"{self.b} over {self.a}"

    @property
    def kind(self) -> str:
        if not self.before:
            return "ties become leads"
        return "leads turn round" if self.after else "leads become ties"


def _lead_changes(trials: Trials, arms: Sequence[str], measure: Measure) -> list[LeadChange]:
    """-> of methods that have recovered."""
    before, after = (_contestants(trials, arms, rounded) for rounded in (False, True))
    pairs = itertools.combinations(recovery.recovered(trials, list(before)), 2)
    every = [LeadChange(a, b, *(_leader(trials, measure, x[a], x[b]) for x in (before, after))) for a, b in pairs]
    return [x for x in every if x.before != x.after]


def _leader(trials: Trials, measure: Measure, a: str, b: str) -> int:
    versus = trials.versus(measure, a, b)
    return {"better": 1, "worse": -1, "within noise": 0}[verdict(versus, measure)] if versus else 0


def lead_changes(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> str:
    """Return a sentence on significant leads that appear, vanish or turn round with rounded tables, by measure."""
    parts = []
    for m in measures:
        changes = _lead_changes(trials, arms, m)
        for kind in dict.fromkeys(x.kind for x in changes):
            parts.append(f"by {m.name} {kind} ({join_names(x.pair for x in changes if x.kind == kind)})")
    sentence = "; ".join(parts) or "no significant lead becomes a tie, turns round, or appears"
    return f"{sentence[0].upper()}{sentence[1:]}."
