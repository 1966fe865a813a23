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
from longjax.report.plotting.labels import name_points
from longjax.report.plotting.style import KIND_COLOUR, KIND_MARKER
from longjax.report.rows import Number
from longjax.report.stats.correlation import Correlation, spearman
from longjax.report.study.measures import Measure, manyshot, needle, ppl
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import COMMAND, absent, draw
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials, over_seeds
from longjax.report.tables import Column, Table

MOVED = 3  # places, from which a method is named
ALIKE = 0.95  # Spearman's rho
CUT = (
    "Who loses by the whole answer has named the class and gone on after its line, as the prompt's examples do: the "
    "cut decides whether that counts."
)
TITLE = "How far do scorers and protocols differ?"
PROTOCOL = """The same answers to the needle test are scored by the share of the two facts that they name (our score),
by the study's word overlap, of which 91.7 is the most, by ROUGE-1 against the needle, and by whether the sentence was
said word for word; the same answers to many-shot TREC by their first line (both scorers) and as they are. Two protocols
of the study are run beside the clean ones: a BOS token in front of the needle (needle bos lceg), and its perplexity,
whose windows slide by 256 tokens through one document after the other, so that a few windows are of hardly more than
one (lceg), beside windows that score every token once (nested): other text, so that only places can be compared."""

Value = Callable[[str], Number | None]  # of an arm


@dataclasses.dataclass(frozen=True)
class Scorer:
    """One way of scoring: its column, and the number of an arm."""

    column: Column
    of: Value
    is_ppl: bool = False


def section(trials: Trials, folder: pathlib.Path) -> Section:
    groups = {name: way for name, way in ways(trials).items() if len(shared(trials, way)) > 1}
    missing = tuple(f"{name}: not both ways were run" for name in ways(trials) if name not in groups)
    missing += absent(trials, [arm for arm in ("base",) if not groups])
    tables = tuple(table(trials, file, name, groups[name]) for file, name in FILES.items() if name in groups)
    finding = findings(trials, groups) if groups else []
    figures = ()
    if FACTS in groups:
        title = "Needle: the same answers by two other scorers."
        figures = (draw(folder, "f_scorers.png", title, lambda: picture(trials, groups[FACTS])),)
    return Section(TITLE, PROTOCOL, tables, figures, tuple(finding), COMMAND if groups else "", missing)


FACTS, BOS, LCEG, LINES = "Needle, by scorer", "Needle, clean and lceg", "Perplexity, by protocol", "Many-shot, by cut"
FILES = {"f_needle_scorers": FACTS, "f_needle_bos": BOS, "f_perplexity": LCEG, "f_manyshot": LINES}


def ways(trials: Trials) -> dict[str, list[Scorer]]:
    """-> by what they differ in; the first of each is ours."""
    end = trials.extended
    fields = ("value", "word_overlap", "rouge1", "exact")
    whole = Scorer(Column("whole answer"), lambda arm: rescored(trials, arm))
    return {
        FACTS: [of_measure(trials, needle(field=field), HEADS[field]) for field in fields],
        BOS: [of_measure(trials, needle(), "clean"), of_measure(trials, needle(bos="lceg"), "with a BOS (lceg)")],
        LCEG: [
            of_measure(trials, ppl(end), f"PPL {end} nested"),
            of_measure(trials, ppl(end, "lceg"), f"PPL {end} lceg"),
        ],
        LINES: [of_measure(trials, manyshot(), "first line"), whole],
    }


HEADS = {"value": "facts", "word_overlap": "word overlap", "rouge1": "ROUGE-1", "exact": "word for word"}


def of_measure(trials: Trials, measure: Measure, head: str) -> Scorer:
    column = dataclasses.replace(measure.column, head=head)
    return Scorer(column, lambda arm: trials.number(measure, arm), measure.is_ppl)


def rescored(trials: Trials, arm: str) -> Number | None:
    """-> many-shot answers as they are, mean over numbers of shots."""
    found = []
    for seed in trials.seeds:
        tasks = trials.records(manyshot(), arm, seed).values()
        means = [float(np.mean([score_share(KIND, r, False) for r in records])) for records in tasks]
        found += [Number(float(np.mean(means)), n=max(map(len, tasks)))] if means else []
    return over_seeds(found, len(trials.seeds))


def shared(trials: Trials, group: Sequence[Scorer]) -> list[str]:
    """-> main arms that have a number by every way."""
    return [arm for arm in trials.main if all(math.isfinite(value_of(way, arm)) for way in group)]


def value_of(way: Scorer, arm: str) -> float:
    number = way.of(arm)
    return math.nan if number is None or number.value is None else number.value


def places(way: Scorer, arms: Sequence[str]) -> dict[str, int]:
    """-> 1: the best."""
    sign = 1 if way.is_ppl else -1
    value = {arm: round(sign * value_of(way, arm), 9) for arm in arms}  # sums in another order are no difference
    return {arm: 1 + sum(x < value[arm] for x in value.values()) for arm in arms}


def table(trials: Trials, file: str, title: str, group: Sequence[Scorer]) -> Table:
    arms, lines = shared(trials, group), []
    ranked = [places(way, arms) for way in group]
    columns = [c for way in group for c in (way.column, Column(f"place, {way.column.head}", 1.0, 0))]
    for arm in arms:
        cells = [x for way, place in zip(group, ranked, strict=True) for x in (way.of(arm), Number(float(place[arm])))]
        lines.append((trials.subject(arm), tuple(cells)))
    return Table(file, title, tuple(columns), tuple(lines), ("Equal numbers share a place.",))


def findings(trials: Trials, groups: dict[str, list[Scorer]]) -> list[str]:
    """-> the answer: who ranks alike; then a paragraph on scorers, on protocols and on the cut."""
    alike, less = [], []
    for group in groups.values():
        for way in group[1:]:
            rho = correlation(group[0], way, shared(trials, group))
            if rho is not None:
                named = f"{way.column.head} ({rho.value:+.2f})"
                (alike if rho.value >= ALIKE else less).append(named)
    first = f"Methods stand in nearly the same order (Spearman's rho of at least {ALIKE} with ours) by {listed(alike)}"
    lines = [first + (f"; less so by {listed(less)}" if less else "") + "."]
    for names in ((FACTS,), (BOS, LCEG), (LINES,)):
        said = [line for name in names if name in groups for line in agreement(trials, groups[name])]
        lines += [" ".join([*said, *[CUT] * (LINES in names)])] if said else []
    return lines


def agreement(trials: Trials, group: Sequence[Scorer]) -> list[str]:
    """-> how far every other way is from ours."""
    arms = shared(trials, group)
    return [beside(group[0], way, arms) for way in group[1:]]


def correlation(ours: Scorer, way: Scorer, arms: Sequence[str]) -> Correlation | None:
    x, y = (np.array([value_of(w, arm) for arm in arms]) for w in (ours, way))
    return spearman(x, y)


def beside(ours: Scorer, way: Scorer, arms: Sequence[str]) -> str:
    """-> differences, of perplexities none, as they are of other text; who moves far."""
    x, y = (np.array([value_of(w, arm) for arm in arms]) for w in (ours, way))
    apart, digits = ours.column.scale * (y - x), ours.column.decimals
    said = f"{way.column.head[0].upper()}{way.column.head[1:]} against {ours.column.head}: "
    if not apart.any():
        return said + "the numbers of each are the same."
    ends = f"{apart.min():+.{digits}f} ({arms[int(apart.argmin())]}) to {apart.max():+.{digits}f}"
    words = f"{apart.mean():+.{digits}f} on average, {ends} ({arms[int(apart.argmax())]}); "
    said += "other text, so only places can be compared; " if ours.is_ppl else words
    first, then = places(ours, arms), places(way, arms)
    moved = sorted((a for a in arms if abs(first[a] - then[a]) >= MOVED), key=lambda a: -abs(first[a] - then[a]))
    places_ = listed(f"{a} from place {first[a]} to {then[a]}" for a in moved)
    return said + (f"by {MOVED} places or more move {places_}." if moved else f"no method moves by {MOVED} places.")


def picture(trials: Trials, group: Sequence[Scorer]) -> Any:
    """Facts found against the study's overlap and ROUGE-1: on the line, both say the same."""
    arms, ours, others = shared(trials, group), group[0], group[1:3]
    figure, axes = plt.subplots(1, len(others), figsize=(4.6 * len(others), 3.9), squeeze=False, layout="constrained")
    for ax, way in zip(axes[0], others, strict=True):
        points = [(arm, 100 * value_of(ours, arm), 100 * value_of(way, arm)) for arm in arms]
        ax.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=0.9, zorder=1)
        for arm, x, y in points:
            kind = trials.kind(arm)
            ax.scatter(x, y, s=30, color=KIND_COLOUR.get(kind, "black"), marker=KIND_MARKER.get(kind, "p"), zorder=3)
        ax.set(xlim=(-4, 104), ylim=(-4, 104), xlabel="share of facts (%)", ylabel=f"{way.column.head} (%)")
        name_points(ax, [(arm, KIND_COLOUR.get(trials.kind(arm), "black"), x, y) for arm, x, y in points])
    return figure
