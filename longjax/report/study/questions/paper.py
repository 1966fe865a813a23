"""Agreement with the paper's Table 1 (arXiv:2409.12181, LLaMA-2 7B from 4096 to 32768): ranks, and single claims."""

import math
import pathlib

import numpy as np

from longjax.report.published import PUBLISHED
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats import correlation
from longjax.report.stats.correlation import Correlation, spearman
from longjax.report.study import measures, recovery
from longjax.report.study.measures import Measure
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.claims import HOLDS, NOT, OPEN, UNRUN, claims
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

TITLE = "Where do our results agree with the paper's?"
PROTOCOL = """The paper extended LLaMA-2 7B from 4096 to 32768 tokens with 1 B tokens; here everything is smaller, so
numbers cannot be compared, but orders can. Ranks are over recovered methods that both have (1 is the best, ties share);
Spearman's rho of the two orders has a 95 % interval over resampled methods, and is sure where that leaves out 0 and a
permutation test has p < 0.05. 'Surely' is: 95 % intervals over the questions, and all seeds, on one side. Of pairs,
nine tenths must surely be so for a claim to hold, and one tenth must surely be the other way round for it not to hold;
all other claims name their bounds. What is left cannot be told."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    shared = {name: found for name, m in columns(trials).items() if len(found := both(trials, name, m)) >= 4}
    every = claims(trials)
    verdicts = {v: sum(c.verdict == v for c in every) for v in (HOLDS, NOT, OPEN, UNRUN)}
    counted = "; ".join(f"{v}: {n}" for v, n in verdicts.items() if n)
    missing = () if shared else ("four methods or more of a column of the paper's Table 1",)
    tables = (ranks(trials, shared), agreements(shared)) if shared else ()
    finding = (f"Of {len(every)} claims: {counted}.", *orders(shared), "\n".join(f"- {claim}" for claim in every))
    return Section(TITLE, " ".join(PROTOCOL.split()), tables, (), finding, missing=missing)


def columns(trials: Trials) -> dict[str, Measure]:
    """-> ours for the paper's."""
    return {
        "PPL": measures.ppl(trials.extended), "needle": measures.needle(), "many-shot": measures.manyshot(),
        "RULER": measures.ruler(trials.extended),
    }  # fmt: skip


def published(name: str) -> dict[str, float]:
    """-> Table 1's by method."""
    return {x.method: x.value for x in PUBLISHED if x.table == 1 and x.column == name and x.method != "base"}


def both(trials: Trials, name: str, measure: Measure) -> dict[str, tuple[float, float]]:
    """-> of each recovered method that both have, its rank here and in the paper; ties share theirs."""
    theirs = published(name)
    able = recovery.recovered(trials, trials.main)
    arms = [arm for arm in able if arm in theirs and not math.isnan(trials.value(measure, arm))]
    sign = 1 if measure.is_ppl else -1
    sides = ([trials.value(measure, arm) for arm in arms], [theirs[arm] for arm in arms])
    places = (1 + correlation.ranks(sign * np.array(side)) for side in sides)
    return {arm: (float(a), float(b)) for arm, a, b in zip(arms, *places, strict=True)}


def rho(found: dict[str, tuple[float, float]]) -> Correlation | None:
    return spearman(*np.array(list(found.values()), float).T)


def ranks(trials: Trials, shared: dict[str, dict[str, tuple[float, float]]]) -> Table:
    head = tuple(Column(f"{name} {where}", 1.0, 1) for name in shared for where in ("here", "paper"))
    arms = [arm for arm in trials.main if any(arm in found for found in shared.values())]
    lines = []
    for arm in arms:
        pairs = [found.get(arm, (None, None)) for found in shared.values()]
        numbers = tuple(None if x is None else Number(float(x)) for pair in pairs for x in pair)
        lines.append((trials.subject(arm), numbers))
    return Table("paper_ranks", "Ranks here and in the paper's Table 1", head, tuple(lines))


def agreements(shared: dict[str, dict[str, tuple[float, float]]]) -> Table:
    lines = []
    for name, found in shared.items():
        x = rho(found)
        cell = Number(x.value, mark=f"{x.low:+.2f} to {x.high:+.2f}") if x else None
        lines.append((ReportSubject(name, "", "", "", name), (Number(float(len(found))), cell)))
    head = (Column("methods", 1.0, 0), Column("Spearman's rho (95 %)", 1.0, 2))
    return Table("paper", "Agreement of the orders", head, tuple(lines), (), "column")


def orders(shared: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    found = {name: x for name, pairs in shared.items() if (x := rho(pairs))}
    sure = [f"{name} ({x})" for name, x in found.items() if x.sign > 0]
    against = [f"{name} ({x})" for name, x in found.items() if x.sign < 0]
    open_ = [f"{name} ({x})" for name, x in found.items() if x.sign == 0]
    parts = [f"The orders agree by {listed(sure)}"] if sure else []
    parts += [f"they are reversed by {listed(against)}"] if against else []
    parts += [f"by {listed(open_)} nothing is sure with so few methods"] if open_ else []
    text = "; ".join(parts)
    return [text[0].upper() + text[1:] + "."] if text else []
