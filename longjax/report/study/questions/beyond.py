"""(g) Which methods work beyond the length of the training?"""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.plotting.scatter import Point, draw_points, label_points
from longjax.report.plotting.style import NUMBER
from longjax.report.rows import Number
from longjax.report.study import recovery
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import draw_figure
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials, number_over_seeds
from longjax.report.tables import Column, Table

HOLDS, BREAKS = 1.05, 1.5  # times the perplexity at the length of the training
KEEPS, LOSES, LEAST = 0.8, 0.5, 0.1  # shares of the score there; scores below the least are too low to lose
TICKS = (0.8, 0.9, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 300, 1000)
TITLE = "Which methods work beyond the length of the training?"
PROTOCOL = """Trained methods saw rows of {extended} tokens, frozen ones were set for them, and all are evaluated at
{longest}; some reach further by their definition: CLEX learns factors beyond, NTK-64K and theta are set for more.
Perplexity is over the same text at both lengths, so a method that uses all of its context has a ratio of at most 1. It
holds where the ratio is at most {holds} in every seed, and breaks where it is above {breaks} in every seed. The loss
past {extended} is the mean over those positions of windows of {longest} tokens, minus that over the positions from
{half} to {extended} of the same windows. A score is kept where its share is at least {keeps:.0f} % in every seed, and
lost where it is below {loses:.0f} %; scores below {least:.0f} % at {extended} are too low to lose."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare perplexity and scores at twice the length of the training with those at it."""
    lengths = {"extended": trials.extended, "longest": trials.longest, "half": trials.extended // 2}
    shares = {"keeps": 100 * KEEPS, "loses": 100 * LOSES, "least": 100 * LEAST}
    protocol = PROTOCOL.format(**lengths, **shares, holds=HOLDS, breaks=BREAKS)
    known = [arm for arm in trials.main if ppl_ratio(trials, arm) is not None]
    if not known:
        return Section(TITLE, protocol, missing=(f"perplexity at {trials.extended} and {trials.longest}",))
    figures = []
    if len(points := _points(trials)) > 3:
        title = f"Perplexity and RULER at {trials.longest} relative to {trials.extended}. Upper left: works beyond."
        title += f" Dotted: {HOLDS} and {BREAKS} times the perplexity."
        figures.append(draw_figure(folder, "beyond.png", title, lambda: _figure(trials, points)))
    tables = (_perplexity_table(trials, known), *_score_tables(trials))
    return Section(TITLE, protocol, tables, tuple(figures), beyond_finding(trials, known))


def ppl_ratio(trials: Trials, arm: str) -> Number | None:
    """Return the perplexity at the longest length over that at the length of the training, over seeds."""
    return _ratio(trials, arm, measures.ppl(trials.longest), measures.ppl(trials.extended))


def ruler_share(trials: Trials, arm: str) -> Number | None:
    """Return the share of RULER's score that is kept; None: not run, or too low to lose."""
    return _ratio(trials, arm, measures.ruler(trials.longest), measures.ruler(trials.extended), LEAST)


def _ratio(trials: Trials, arm: str, far: Measure, near: Measure, least: float = 0.0) -> Number | None:
    """-> far / near, seed by seed; None: not run, or near is below the least."""
    if not trials.value(near, arm) >= least:
        return None
    ratios = []
    for seed in trials.seeds:
        numbers = [trials.number_of_seed(m, arm, seed) for m in (far, near)]
        a, b = (x.value if x is not None else None for x in numbers)
        ratios += [Number(a / b)] if a is not None and b else []
    return number_over_seeds(ratios, len(trials.seeds))


def _lowest(number: Number) -> float:
    """-> of all seeds."""
    assert number.value is not None
    return number.value - (number.half_range or 0.0)


def _highest(number: Number) -> float:
    """-> of all seeds."""
    assert number.value is not None
    return number.value + (number.half_range or 0.0)


def holds(ratio: Number) -> bool:
    """Whether perplexity holds in every seed."""
    return _highest(ratio) <= HOLDS


def breaks(ratio: Number) -> bool:
    """Whether perplexity breaks in every seed."""
    return _lowest(ratio) > BREAKS


def keeps(share: Number) -> bool:
    """Whether the score is kept in every seed."""
    return _lowest(share) >= KEEPS


def loses(share: Number) -> bool:
    """Whether the score is lost in every seed."""
    return _highest(share) < LOSES


def _loss_past(trials: Trials, arm: str) -> Number | None:
    """-> nats more at positions past the training's length than at those of its second half."""
    numbers = []
    for seed in trials.seeds:
        rows = [r for r in trials.rows_of(arm, seed) if r["task"] == "position_nll" and r["length"] == trials.longest]
        rows = [r for r in rows if r["protocol"] == "nested" and r["value"] is not None]
        past = [r["value"] for r in rows if r["position"] > trials.extended]
        before = [r["value"] for r in rows if trials.extended / 2 < r["position"] <= trials.extended]
        numbers += [Number(float(np.mean(past) - np.mean(before)))] if past and before else []
    return number_over_seeds(numbers, len(trials.seeds))


def _perplexity_table(trials: Trials, arms: Sequence[str]) -> Table:
    near, far = measures.ppl(trials.extended), measures.ppl(trials.longest)
    heads = (near.column, far.column, Column("ratio", 1.0, 3), Column(f"loss past {trials.extended}, nats", 1.0, 3))
    lines = []
    for arm in arms:
        numbers = (trials.number(near, arm), trials.number(far, arm), ppl_ratio(trials, arm), _loss_past(trials, arm))
        lines.append((trials.subject(arm), numbers))
    return Table("beyond", "Perplexity beyond the length of the training", heads, tuple(lines))


def _score_tables(trials: Trials) -> list[Table]:
    """-> RULER, pass keys and numbers in a haystack at both lengths."""
    pairs = [
        (measures.ruler(trials.extended), measures.ruler(trials.longest)),
        (measures.passkey(trials.extended), measures.passkey(trials.longest)),
        (measures.needle(trials.extended, "number"), measures.needle(trials.longest, "number")),
    ]
    pairs = [pair for pair in pairs if any(trials.number(pair[1], arm) for arm in trials.main)]
    heads = tuple(c for near, far in pairs for c in (near.column, far.column, Column("kept, %")))
    lines = []
    for arm in trials.main:
        cells = [(trials.number(n, arm), trials.number(f, arm), _ratio(trials, arm, f, n, LEAST)) for n, f in pairs]
        numbers = tuple(x for triple in cells for x in triple)
        if any(x is not None for x in numbers):
            lines.append((trials.subject(arm), numbers))
    return [Table("beyond_scores", "Scores beyond the length of the training", heads, tuple(lines))] if pairs else []


def beyond_finding(trials: Trials, arms: Sequence[str]) -> str:
    """Return the answer for methods that have recovered; the base was meant for neither length."""
    judged = [arm for arm in recovery.recovered(trials, arms) if arm != "base"]
    ratios = {arm: x for arm in judged if (x := ppl_ratio(trials, arm)) is not None}
    shares = {arm: x for arm in judged if (x := ruler_share(trials, arm)) is not None}
    holding, breaking = ([arm for arm, x in ratios.items() if rule(x)] for rule in (holds, breaks))
    left_out = recovery.left_out(trials, arms)
    if not shares:
        verdicts = f"holds for {join_names(holding)}; it breaks for {join_names(breaking)}"
        return f"At {trials.longest} perplexity {verdicts}.{left_out}"
    keeping, losing = ([arm for arm, x in shares.items() if rule(x)] for rule in (keeps, loses))
    both, hidden = ([arm for arm in holding if arm in group] for group in (keeping, losing))
    neither = join_names(arm for arm in breaking if arm in losing)
    hides = f" Perplexity holds while the task is lost for {join_names(hidden)}." if hidden else ""
    return (
        f"At {trials.longest}, twice the length of the training, perplexity and RULER both hold for {join_names(both)};"
        f" neither holds for {neither}.{hides}{left_out}"
    )


def _points(trials: Trials) -> list[Point]:
    """-> ratio of perplexities, share of RULER kept in per cent."""
    points = []
    for arm in trials.main:
        x, y = ppl_ratio(trials, arm), ruler_share(trials, arm)
        if x is not None and y is not None and x.value is not None and y.value is not None:
            points.append(Point(arm, trials.kind(arm), x.value, 100 * y.value))
    return points


def _figure(trials: Trials, points: list[Point]) -> Any:
    figure, ax = plt.subplots(figsize=(7.2, 4.4))
    low, high = min(p.x for p in points) / 1.1, max(p.x for p in points) * 1.25
    draw_points(ax, points)
    ax.set(xscale="log", xlim=(low, high), ylim=(-8, max(108.0, 8 + max(p.y for p in points))))
    ticks = [n for n in TICKS if low <= n <= high]
    ax.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator(), major_formatter=NUMBER)
    for bound in (HOLDS, BREAKS):
        ax.axvline(bound, color="#555555", linewidth=0.8, linestyle=(0, (1, 2)))
    ax.set_xlabel(f"perplexity at {trials.longest} / perplexity at {trials.extended}")
    ax.set_ylabel(f"RULER at {trials.longest}, % of that at {trials.extended}")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8)
    label_points(ax, points)
    return figure
