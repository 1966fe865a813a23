"""Agreement with Table 1 of arXiv:2409.12181 (LLaMA-2 7B from 4096 to 32768): ranks, and single claims."""

import math
import pathlib

import numpy as np

from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.published import published_column
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats import correlation
from longjax.report.stats.correlation import spearman
from longjax.report.study import recovery
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.claims import HOLDS, NOT, OPEN, UNRUN, all_claims
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

TITLE = "Where do our results agree with the paper's?"
PROTOCOL = """The paper extended LLaMA-2 7B from 4096 to 32768 tokens with 1 B tokens; here everything is smaller, so
numbers cannot be compared, but orders can. Ranks are over recovered methods that both have (1 is the best, ties share);
Spearman's rho of the two orders has a 95 % interval over resampled methods. Of pairs, nine tenths must significantly be
so for a claim to hold, and one tenth must significantly be the other way round for it not to hold; all other claims
name their bounds. What is left is undecided."""
Ranks = dict[str, tuple[float, float]]  # by method: here, in the paper


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare the orders of methods with the paper's, and check its claims."""
    shared = {name: ranks for name, m in _columns(trials).items() if len(ranks := common_ranks(trials, name, m)) >= 4}
    claims = all_claims(trials)
    counts = {v: sum(claim.verdict == v for claim in claims) for v in (HOLDS, NOT, OPEN, UNRUN)}
    missing = () if shared else ("four methods or more of a column of the paper's Table 1",)
    tables = (_rank_table(trials, shared), _agreement_table(shared)) if shared else ()
    finding = f"Of {len(claims)} claims: {'; '.join(f'{v}: {n}' for v, n in counts.items() if n)}."
    return Section(TITLE, PROTOCOL, tables, (), finding, claims=tuple(map(str, claims)), missing=missing)


def _columns(trials: Trials) -> dict[str, Measure]:
    """-> ours for the paper's."""
    return {
        "PPL": measures.ppl(trials.extended), "needle": measures.needle(), "many-shot": measures.manyshot(),
        "RULER": measures.ruler(trials.extended),
    }  # fmt: skip


def common_ranks(trials: Trials, name: str, measure: Measure) -> Ranks:
    """Return the ranks of each recovered method that both have, for a column of the paper's Table 1."""
    paper = published_column(name)
    recovered = recovery.recovered(trials, trials.main)
    arms = [arm for arm in recovered if arm in paper and not math.isnan(trials.value(measure, arm))]
    sign = 1 if measure.is_ppl else -1
    sides = ([trials.value(measure, arm) for arm in arms], [paper[arm] for arm in arms])
    here, there = (1 + correlation.ranks(sign * np.array(side)) for side in sides)
    return {arm: (float(a), float(b)) for arm, a, b in zip(arms, here, there, strict=True)}


def _rank_table(trials: Trials, shared: dict[str, Ranks]) -> Table:
    heads = tuple(Column(f"{name} {side}", 1.0, 1) for name in shared for side in ("here", "paper"))
    lines = []
    for arm in [arm for arm in trials.main if any(arm in ranks for ranks in shared.values())]:
        pairs = [ranks.get(arm, (None, None)) for ranks in shared.values()]
        numbers = tuple(None if x is None else Number(float(x)) for pair in pairs for x in pair)
        lines.append((trials.subject(arm), numbers))
    return Table("paper_ranks", "Ranks here and in the paper's Table 1", heads, tuple(lines))


def _agreement_table(shared: dict[str, Ranks]) -> Table:
    lines = []
    for name, ranks in shared.items():
        rho = spearman(*np.array(list(ranks.values()), float).T)
        cell = Number(rho.value, mark=f"{rho.low:+.2f} to {rho.high:+.2f}") if rho else None
        lines.append((ReportSubject(name, "", "", "", name), (Number(float(len(ranks))), cell)))
    heads = (Column("methods", 1.0, 0), Column("Spearman's rho (95 %)", 1.0, 2))
    return Table("paper", "Agreement of the orders", heads, tuple(lines), (), "column")
