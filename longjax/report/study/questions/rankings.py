"""Two rankings of the same methods side by side: by arms trained with float32 tables, and with rounded ones."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from longjax.report.published import PUBLISHED
from longjax.report.rows import Number
from longjax.report.study import recovery
from longjax.report.study.measures import Measure
from longjax.report.study.questions.comparisons import order, verdict
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

ROUNDED = "_ds_bf16"
RIVALS = ("ntk_64k", "clex")  # as they are in both rankings


def contestants(trials: Trials, arms: Sequence[str], rounded: bool) -> dict[str, str]:
    """-> method: the arm that stands for it."""
    rivals = [arm for arm in RIVALS if arm in trials.arms]
    return {arm: arm + ROUNDED * rounded for arm in arms} | {arm: arm for arm in rivals}


def ranking(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> Table:
    columns, lines = [], []
    theirs = {x.method: x.value for x in PUBLISHED if x.table == 1 and x.column == "RULER"}
    both = [contestants(trials, arms, rounded) for rounded in (False, True)]
    for m in measures:
        for tables in ("float32", "bf16"):
            head = m.column
            columns += [Column(f"{m.name} {tables}", head.scale, head.decimals), Column(f"place {tables}", 1.0, 0)]
    for method in both[0]:
        cells: list[Number | None] = []
        for m in measures:
            for who in both:
                ordered, arm = order(trials, list(who.values()), m), who[method]
                equal = next((x for x in ordered if trials.value(m, x) == trials.value(m, arm)), None)
                cells += [trials.number(m, arm), None if equal is None else Number(ordered.index(equal) + 1.0)]
        cells.append(Number(theirs[method]) if method in theirs else None)
        lines.append((trials.subject(method), tuple(cells)))
    columns.append(Column("RULER 32768, the paper's Table 1", 1.0, 2))
    note = "The best is at place 1, equals share theirs. bf16: methods of the table above trained with rounded tables, "
    note += "the others as is."
    return Table("a_ranking", "Both rankings side by side", tuple(columns), tuple(lines), (note,))


class Change(NamedTuple):
    """Of two methods, who is surely ahead with float32 tables and with rounded ones: 1 the first, -1 the second, 0."""

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
            return "ties become sure leads"
        return "sure leads turn round" if self.after else "sure leads become ties"


def changes(trials: Trials, arms: Sequence[str], measure: Measure) -> list[Change]:
    """-> pairs of methods whose relation is another with the other tables; of those that can be judged."""
    before, after = (contestants(trials, arms, rounded) for rounded in (False, True))
    judged = recovery.recovered(trials, list(before))
    every = [
        Change(a, b, ahead(trials, measure, before[a], before[b]), ahead(trials, measure, after[a], after[b]))
        for a, b in itertools.combinations(judged, 2)
    ]
    return [x for x in every if x.before != x.after]


def ahead(trials: Trials, measure: Measure, a: str, b: str) -> int:
    found = trials.versus(measure, a, b)
    return {"better": 1, "worse": -1, "within noise": 0}[verdict(found, measure)] if found else 0


def relations(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> str:
    """-> who was surely ahead of whom, and is not, and the other way round; by measure."""
    parts = []
    for m in measures:
        found = changes(trials, arms, m)
        for kind in dict.fromkeys(x.kind for x in found):
            parts.append(f"by {m.name} {kind} ({listed(x.pair for x in found if x.kind == kind)})")
    said = "; ".join(parts) or "no sure lead becomes a tie, turns round, or comes up"
    same = [arm for arm in RIVALS if any(arm in (x.a, x.b) for m in measures for x in changes(trials, arms, m))]
    note = f" On both sides {listed(same)} {'is the same arm' if len(same) == 1 else 'are the same arms'}." * bool(same)
    return f"{said[0].upper()}{said[1:]}.{note}"
