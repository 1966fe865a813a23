"""(f) How far do scorers and protocols differ: on the same answers, and on the same models?"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from longjax.evals.longbench.scoring import score_share
from longjax.evals.manyshot import KIND
from longjax.report.measures import Measure, manyshot, needle, ppl
from longjax.report.plotting.scatter import Point, draw_points, label_points
from longjax.report.rows import Number
from longjax.report.stats.correlation import Correlation, spearman
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import COMMAND, draw_figure, missing_arms
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials, number_over_seeds
from longjax.report.tables import Column, Table

ALIKE = 0.95  # Spearman's rho
TITLE = "How far do scorers and protocols differ?"
PROTOCOL = """The same answers to the needle test are scored by the share of the two facts that they name (our score),
by the study's word overlap, which is at most 91.7, by ROUGE-1 against the needle, and by whether the sentence is there
word for word; the same answers to many-shot TREC by their first line (both scorers) and as they are. Two protocols
of the study are run beside the clean ones: a BOS token in front of the needle (needle bos lceg), and its perplexity,
whose windows slide by 256 tokens through one document after the other, so that a few windows are of hardly more than
one (lceg), beside windows that score every token once (nested): other text, so that only places can be compared."""
FACTS, BOS, LCEG, LINES = "Needle, by scorer", "Needle, clean and lceg", "Perplexity, by protocol", "Many-shot, by cut"
FILES = {"f_needle_scorers": FACTS, "f_needle_bos": BOS, "f_perplexity": LCEG, "f_manyshot": LINES}
HEADS = {"value": "facts", "word_overlap": "word overlap", "rouge1": "ROUGE-1", "exact": "word for word"}


@dataclasses.dataclass(frozen=True)
class ScoreVariant:
    """One way of scoring: its column, and the number of an arm."""

    column: Column
    number: Callable[[str], Number | None]
    is_ppl: bool = False

    def value(self, arm: str) -> float:
        """Return the number for arithmetic; NaN: not run."""
        number = self.number(arm)
        return math.nan if number is None or number.value is None else number.value


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare scorers and protocols by the order in which they rank the methods."""
    candidates = _variants(trials)
    groups = {name: group for name, group in candidates.items() if len(_common_arms(trials, group)) > 1}
    missing = tuple(f"{name}: not both were run" for name in candidates if name not in groups)
    missing += missing_arms(trials, [arm for arm in ("base",) if not groups])
    tables = tuple(_places_table(trials, file, name, groups[name]) for file, name in FILES.items() if name in groups)
    figures = ()
    if FACTS in groups:
        title = "Needle: the same answers by two other scorers."
        figures = (draw_figure(folder, "f_scorers.png", title, lambda: _figure(trials, groups[FACTS])),)
    finding = scorer_finding(trials, list(groups.values())) if groups else ""
    return Section(TITLE, PROTOCOL, tables, figures, finding, command=COMMAND if groups else "", missing=missing)


def _variants(trials: Trials) -> dict[str, list[ScoreVariant]]:
    """-> by what they differ in; the first of each is ours."""
    end = trials.extended
    fields = ("value", "word_overlap", "rouge1", "exact")
    whole = ScoreVariant(Column("whole answer"), lambda arm: _whole_answers(trials, arm))
    return {
        FACTS: [_variant_of(trials, needle(field=field), HEADS[field]) for field in fields],
        BOS: [_variant_of(trials, needle(), "clean"), _variant_of(trials, needle(bos="lceg"), "with a BOS (lceg)")],
        LCEG: [
            _variant_of(trials, ppl(end), f"PPL {end} nested"),
            _variant_of(trials, ppl(end, "lceg"), f"PPL {end} lceg"),
        ],
        LINES: [_variant_of(trials, manyshot(), "first line"), whole],
    }


def _variant_of(trials: Trials, measure: Measure, head: str) -> ScoreVariant:
    column = dataclasses.replace(measure.column, head=head)
    return ScoreVariant(column, lambda arm: trials.number(measure, arm), measure.is_ppl)


def _whole_answers(trials: Trials, arm: str) -> Number | None:
    """-> many-shot answers scored as they are, mean over numbers of shots."""
    numbers = []
    for seed in trials.seeds:
        tasks = trials.records(manyshot(), arm, seed).values()
        means = [float(np.mean([score_share(KIND, r, False) for r in records])) for records in tasks]
        numbers += [Number(float(np.mean(means)), n=max(map(len, tasks)))] if means else []
    return number_over_seeds(numbers, len(trials.seeds))


def _common_arms(trials: Trials, group: Sequence[ScoreVariant]) -> list[str]:
    """-> main arms that have a number by every variant."""
    return [arm for arm in trials.main if all(math.isfinite(variant.value(arm)) for variant in group)]


def places(variant: ScoreVariant, arms: Sequence[str]) -> dict[str, int]:
    """Return the place of each arm, 1 for the best; equal numbers share a place."""
    sign = 1 if variant.is_ppl else -1
    value = {arm: round(sign * variant.value(arm), 9) for arm in arms}  # sums in another order are no difference
    return {arm: 1 + sum(x < value[arm] for x in value.values()) for arm in arms}


def _places_table(trials: Trials, file: str, title: str, group: Sequence[ScoreVariant]) -> Table:
    arms, lines = _common_arms(trials, group), []
    orders = [places(variant, arms) for variant in group]
    columns = [c for variant in group for c in (variant.column, Column(f"place, {variant.column.head}", 1.0, 0))]
    for arm in arms:
        pairs = zip(group, orders, strict=True)
        cells = [x for variant, order in pairs for x in (variant.number(arm), Number(float(order[arm])))]
        lines.append((trials.subject(arm), tuple(cells)))
    return Table(file, title, tuple(columns), tuple(lines), ("Equal numbers share a place.",))


def rank_correlation(ours: ScoreVariant, other: ScoreVariant, arms: Sequence[str]) -> Correlation | None:
    """Return Spearman's rho of two scorers over methods."""
    x, y = (np.array([variant.value(arm) for arm in arms]) for variant in (ours, other))
    return spearman(x, y)


def scorer_finding(trials: Trials, groups: Sequence[Sequence[ScoreVariant]]) -> str:
    """Return the answer: which scorers and protocols rank methods as ours do."""
    alike, different = [], []
    for ours, *others in groups:
        arms = _common_arms(trials, [ours, *others])
        for other in others:
            if (rho := rank_correlation(ours, other, arms)) is not None:
                (alike if rho.value >= ALIKE else different).append(f"{other.column.head} ({rho.value:+.2f})")
    text = f"Nearly the same order of methods (Spearman's rho of at least {ALIKE} with ours) by {join_names(alike)}"
    return text + (f"; another one by {join_names(different)}" if different else "") + "."


def _figure(trials: Trials, group: Sequence[ScoreVariant]) -> Any:
    """Facts found against the study's overlap and ROUGE-1, with the line of equal scores."""
    arms, ours, others = _common_arms(trials, group), group[0], group[1:3]
    figure, axes = plt.subplots(1, len(others), figsize=(4.6 * len(others), 3.9), squeeze=False, layout="constrained")
    for ax, other in zip(axes[0], others, strict=True):
        points = [Point(arm, trials.kind(arm), 100 * ours.value(arm), 100 * other.value(arm)) for arm in arms]
        ax.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=0.9, zorder=1)
        draw_points(ax, points)
        ax.set(xlim=(-4, 104), ylim=(-4, 104), xlabel="share of facts (%)", ylabel=f"{other.column.head} (%)")
        label_points(ax, points)
    return figure
