"""A study in one wide picture: perplexity by length, and what perplexity says of a task."""

import pathlib
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.report import measures
from longjax.report.names import name_ends
from longjax.report.overall import ranked
from longjax.report.panels import Curve
from longjax.report.pictures import KILO, curves, lengths, marks
from longjax.report.plots import scatter_of
from longjax.report.style import KIND_COLOUR, NUMBER, STYLE, save, ticks
from longjax.report.trials import Trials

TITLE = "Left: perplexity by length; of each kind the best (solid) and, if trained, the worst (dashed), others grey. "
TITLE += "Right: the score on tasks against perplexity. Means of the seeds."
FIELD = "#d9d9d9"
MOST = 2.0  # times the base's perplexity at its own length: where the left axis ends
STYLES = ("-", (0, (5, 2)))  # of the first and the last of a kind


def draw(trials: Trials, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Writes overview.png, if there is perplexity at two lengths at least. -> (file name, title)."""
    asked = lengths(trials, "perplexity", protocol="nested")
    if len(asked) < 2:
        return []
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(12.4, 4.4), width_ratios=(1.0, 1.12))
        figure.subplots_adjust(wspace=0.5)
        by_length(axes[0], trials, asked)
        against(axes[1], trials)
        save(figure, folder / "overview.png")
    return [("overview.png", TITLE)]


def telling(trials: Trials, length: int) -> list[str]:
    """-> the base; of each kind the lowest perplexity at this length, and of trained ones the highest, too."""
    found = [arm for arm in trials.main if trials.kind(arm) == "base"]
    ppl = measures.ppl(length)
    for kind in dict.fromkeys(trials.kind(arm) for arm in trials.main):
        order = ranked(trials, ppl, [arm for arm in trials.main if trials.kind(arm) == kind])
        found += order[:1] if not kind.endswith(" trained") else [*order[:1], *order[-1:]]
    return list(dict.fromkeys(found))


def by_length(ax: Any, trials: Trials, asked: list[int]) -> None:
    """The telling ones in the colours of their kinds, all others grey behind them."""
    every = curves(trials, [measures.ppl(n) for n in asked])
    shown = telling(trials, asked[-1])
    low, high = min(min(c.y) for c in every), MOST * max(c.y[0] for c in every)
    ax.set(xscale="log", yscale="log", ylim=(low / 1.05, high), title="Perplexity of held-out text")
    ends = []
    for curve in every:
        if curve.label not in shown:
            ax.plot(curve.x, curve.y, color=FIELD, linewidth=1.0, zorder=1)
            continue
        kind = trials.kind(curve.label)
        place = [arm for arm in shown if trials.kind(arm) == kind].index(curve.label)
        ends.append(line(ax, curve, KIND_COLOUR[kind], STYLES[place], high))
    ax.xaxis.set(major_locator=FixedLocator(asked), minor_locator=NullLocator(), major_formatter=KILO)
    ax.yaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)
    ax.set(xlabel="context length (tokens)", ylabel="perplexity")
    marks(trials).draw(ax)
    name_ends(ax, ends)


def line(ax: Any, curve: Curve, colour: str, style: Any, high: float) -> tuple[str, str, float, float]:
    ax.plot(curve.x, curve.y, color=colour, linestyle=style, marker="o", markersize=3, zorder=3)
    text = curve.label if curve.y[-1] <= high else f"{curve.label}: {curve.y[-1]:.3g}"
    return text, colour, curve.x[-1], min(curve.y[-1], high)


def against(ax: Any, trials: Trials) -> None:
    """RULER at the length of the training; pass keys, where RULER was not run."""
    ppl = measures.ppl(trials.extended)
    for score, words in (
        (measures.ruler(trials.extended), "RULER, mean of 13 tasks (%)"),
        (measures.passkey(trials.extended), "pass keys retrieved (%)"),
    ):
        arms = ranked(trials, ppl, ranked(trials, score, trials.main))
        if len(arms) > 1:
            arms = [arm for arm in trials.main if arm in arms]
            points = [(a, trials.kind(a), trials.value(ppl, a), 100 * trials.value(score, a)) for a in arms]
            high = max(p[3] for p in points)
            scatter_of(ax, points, (-0.07 * high - 1, 1.1 * high + 2))
            at = f"{trials.extended // 1024}K" if trials.extended >= 1024 else str(trials.extended)
            ax.set(xlabel=f"perplexity at {at}", ylabel=words)
            ax.set_title(f"At {at}, {trials.extended // trials.trained} times the context of the base")
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8)
            return
    ax.axis("off")
