"""Question g: who goes on working beyond the length of the training?"""

import pathlib
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.report.plotting.labels import name_points
from longjax.report.plotting.style import KIND_COLOUR, KIND_MARKER, NUMBER, STYLE, save
from longjax.report.rows import Number
from longjax.report.study import measures, recovery
from longjax.report.study.measures import Measure
from longjax.report.study.questions.base import Section
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials, over_seeds
from longjax.report.tables import Column, Table

HOLDS, BREAKS = 1.05, 1.5  # times the perplexity at the length of the training
KEEPS, LOSES, LEAST = 0.8, 0.5, 0.1  # shares of the score there; scores below the least are too low to lose
TITLE = "Who goes on working beyond the length of the training?"
PROTOCOL = """Trained methods saw rows of {extended} tokens, frozen ones were set for them, and all are asked at
{longest}; some reach further by their definition: CLEX learns factors beyond, NTK-64K and theta are set for more.
Perplexity is over the same text at both lengths, so a method that uses what it sees has a ratio of at most 1. It holds
where the ratio is at most {holds} in every seed, and breaks where it is above {breaks} in every seed. The loss past
{extended} is the mean over those positions of windows of {longest} tokens, minus that over the positions from {half} to
{extended} of the same windows. Of a score, the share that is kept is what counts; scores below {least:.0f} % at
{extended} are too low to lose."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    words = {"extended": trials.extended, "longest": trials.longest, "half": trials.extended // 2}
    protocol = " ".join(PROTOCOL.format(**words, holds=HOLDS, breaks=BREAKS, least=100 * LEAST).split())
    known = [arm for arm in trials.main if ratio(trials, arm) is not None]
    if not known:
        return Section(TITLE, protocol, missing=(f"perplexity at {trials.extended} and {trials.longest}",))
    figures = []
    if len(points := kept_points(trials)) > 3:
        with mpl.rc_context(STYLE):
            save(picture(trials, points), folder / "beyond.png")
        title = f"Perplexity and RULER at {trials.longest} relative to {trials.extended}. Upper left: works beyond."
        title += f" Dotted: {HOLDS} and {BREAKS} times the perplexity."
        figures.append(("beyond.png", title))
    tables = (perplexities(trials, known), *scores(trials))
    return Section(TITLE, protocol, tables, tuple(figures), tuple(findings(trials, known)))


def ratio(trials: Trials, arm: str) -> Number | None:
    """-> perplexity at the longest length over that at the length of the training, over seeds."""
    return relative(trials, arm, measures.ppl(trials.longest), measures.ppl(trials.extended))


def relative(trials: Trials, arm: str, far: Measure, near: Measure, least: float = 0.0) -> Number | None:
    """-> far / near, seed by seed; None: not run, or near is below the least."""
    if not trials.value(near, arm) >= least:
        return None
    found = []
    for seed in trials.seeds:
        numbers = [trials.of_seed(m, arm, seed) for m in (far, near)]
        a, b = (x.value if x is not None else None for x in numbers)
        found += [Number(a / b)] if a is not None and b else []
    return over_seeds(found, len(trials.seeds))


def lowest(number: Number) -> float:
    assert number.value is not None
    return number.value - (number.half_range or 0.0)


def highest(number: Number) -> float:
    assert number.value is not None
    return number.value + (number.half_range or 0.0)


def holds(number: Number) -> bool:
    return highest(number) <= HOLDS


def breaks(number: Number) -> bool:
    return lowest(number) > BREAKS


def keeps(number: Number) -> bool:
    return lowest(number) >= KEEPS


def loses(number: Number) -> bool:
    return highest(number) < LOSES


def loss_past(trials: Trials, arm: str) -> Number | None:
    """-> nats more at positions past the training's length than at the ones of its second half."""
    found = []
    for seed in trials.seeds:
        rows = [r for r in trials.of(arm, seed) if r["task"] == "position_nll" and r["length"] == trials.longest]
        rows = [r for r in rows if r["protocol"] == "nested" and r["value"] is not None]
        past = [r["value"] for r in rows if r["position"] > trials.extended]
        before = [r["value"] for r in rows if trials.extended / 2 < r["position"] <= trials.extended]
        found += [Number(float(np.mean(past) - np.mean(before)))] if past and before else []
    return over_seeds(found, len(trials.seeds))


def perplexities(trials: Trials, known: list[str]) -> Table:
    near, far = measures.ppl(trials.extended), measures.ppl(trials.longest)
    head = (near.column, far.column, Column("ratio", 1.0, 3), Column(f"loss past {trials.extended}, nats", 1.0, 3))
    lines = tuple(
        (trials.subject(a), (trials.number(near, a), trials.number(far, a), ratio(trials, a), loss_past(trials, a)))
        for a in known
    )
    return Table("beyond", "Perplexity beyond the length of the training", head, lines)


def scores(trials: Trials) -> list[Table]:
    """-> RULER, pass keys and numbers in a haystack at both lengths."""
    asked = [
        (measures.ruler(trials.extended), measures.ruler(trials.longest)),
        (measures.passkey(trials.extended), measures.passkey(trials.longest)),
        (measures.needle(trials.extended, "number"), measures.needle(trials.longest, "number")),
    ]
    asked = [pair for pair in asked if any(trials.number(pair[1], arm) for arm in trials.main)]
    head = tuple(c for near, far in asked for c in (near.column, far.column, Column("kept, %")))
    lines = []
    for arm in trials.main:
        cells = [(trials.number(n, arm), trials.number(f, arm), relative(trials, arm, f, n, LEAST)) for n, f in asked]
        numbers = tuple(x for three in cells for x in three)
        lines += [(trials.subject(arm), numbers)] * any(x is not None for x in numbers)
    return [Table("beyond_scores", "Scores beyond the length of the training", head, tuple(lines))] if asked else []


def kept(trials: Trials, arm: str) -> Number | None:
    """-> the share of RULER that is kept."""
    return relative(trials, arm, measures.ruler(trials.longest), measures.ruler(trials.extended), LEAST)


def times(trials: Trials, arms: list[str]) -> str:
    """-> "pi (x2.10) and yarn (x1.65)"."""
    return listed(f"{arm} (x{x.value:.2f})" for arm in arms if (x := ratio(trials, arm)) is not None)


def findings(trials: Trials, known: list[str]) -> list[str]:
    """The base is not of them: it was not meant for either length. Nor are methods that have not recovered."""
    left = recovery.cannot(trials, known)
    arms = [arm for arm in recovery.recovered(trials, known) if arm != "base"]
    found = {arm: x for arm in arms if (x := ratio(trials, arm)) is not None}
    shares = {arm: x for arm in arms if (x := kept(trials, arm)) is not None}
    holding, breaking = ([arm for arm, x in found.items() if rule(x)] for rule in (holds, breaks))
    keeping, losing = ([arm for arm, x in shares.items() if rule(x)] for rule in (keeps, loses))
    rest = [arm for arm in found if arm not in holding + breaking]
    lines = [
        f"Perplexity at {trials.longest} holds for {times(trials, holding)}; it breaks for {times(trials, breaking)}"
        + (f"; between: {times(trials, rest)}" if rest else "") + "."
    ]  # fmt: skip
    if not shares:
        return [lines[0] + left]
    between = listed(f"{arm} ({100 * (x.value or 0):.0f})" for arm, x in shares.items() if arm not in keeping + losing)
    lines.append(
        f"Of RULER, at least {100 * KEEPS:.0f} % is kept in every seed by {listed(keeping)}; less than half by "
        f"{listed(losing)}; between, in per cent: {between}."
    )
    both, alone = ([arm for arm in holding if arm in group] for group in (keeping, losing))
    first = (
        f"At {trials.longest}, twice the length of the training, perplexity and RULER both hold for {listed(both)}; "
    )
    first += f"neither holds for {listed(arm for arm in breaking if arm in losing)}."
    hides = f" Perplexity alone holds, and hides the loss of the task, for {listed(alone)}." if alone else ""
    return [first + hides + left, *lines]


def kept_points(trials: Trials) -> list[tuple[str, str, float, float]]:
    """-> arm, kind, ratio of perplexities, share of RULER kept in per cent."""
    found = []
    for arm in trials.main:
        x, y = ratio(trials, arm), kept(trials, arm)
        if x is not None and y is not None and x.value is not None and y.value is not None:
            found.append((arm, trials.kind(arm), x.value, 100 * y.value))
    return found


def picture(trials: Trials, points: list[tuple[str, str, float, float]]) -> Any:
    figure, ax = plt.subplots(figsize=(7.2, 4.4))
    low, high = (f(p[2] for p in points) for f in (min, max))
    for kind in dict.fromkeys(p[1] for p in points):
        x, y = zip(*((p[2], p[3]) for p in points if p[1] == kind), strict=True)
        marker, colour = KIND_MARKER.get(kind, "p"), KIND_COLOUR.get(kind, "black")
        ax.scatter(x, y, s=34, zorder=3, edgecolors="white", linewidths=0.6, marker=marker, color=colour, label=kind)
    ax.set(xscale="log", xlim=(low / 1.1, high * 1.25), ylim=(-8, max(108.0, 8 + max(p[3] for p in points))))
    ticks = [n for n in (0.8, 0.9, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 300, 1000) if low / 1.1 <= n <= high * 1.25]
    ax.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator(), major_formatter=NUMBER)
    for place in (HOLDS, BREAKS):
        ax.axvline(place, color="#555555", linewidth=0.8, linestyle=(0, (1, 2)))
    ax.set_xlabel(f"perplexity at {trials.longest} / perplexity at {trials.extended}")
    ax.set_ylabel(f"RULER at {trials.longest}, % of that at {trials.extended}")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8)
    name_points(ax, [(arm, KIND_COLOUR.get(kind, "black"), x, y) for arm, kind, x, y in points])
    return figure
