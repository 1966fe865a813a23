"""A study in one wide picture: perplexity and a task by length, of the methods that carry the story."""

import pathlib
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.report.plotting.labels import name_ends
from longjax.report.plotting.panels import Curve
from longjax.report.plotting.style import COLOURS, GREY, NUMBER, STYLE, save, ticks
from longjax.report.study import measures, recovery
from longjax.report.study.figures import KILO, curves, lengths, marks
from longjax.report.study.main_table import ranked
from longjax.report.study.measures import Measure
from longjax.report.study.questions import beyond
from longjax.report.study.trials import Trials

TITLE = (
    "Perplexity and a task by length, means of the seeds. Named: the base; who has the lowest perplexity and who the "
)
TITLE += (
    "highest score where the training ended; who breaks beyond it; who scores least of those with a low perplexity; "
)
TITLE += "left, dashed, who has not recovered. Grey: all others."
FIELD = "#d9d9d9"
MOST = 2.0  # times the base's perplexity at its own length: where the left axis ends
LOW = 1.25  # times the lowest perplexity: still a low one
DASHED = (0, (4, 2))


def draw_overview(trials: Trials, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Writes overview.png, if there is perplexity at two lengths at least. -> (file name, title)."""
    asked = lengths(trials, "perplexity", protocol="nested")
    if len(asked) < 2:
        return []
    score, words = task(trials)
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9))
        figure.subplots_adjust(wspace=0.48)
        perplexity(left, trials, curves(trials, [measures.ppl(n) for n in asked]), asked)
        places = [m.length or 0 for m in score]
        if len(places) > 1:
            share(right, trials, curves(trials, score, 100.0), places, words)
        else:
            right.axis("off")
        save(figure, folder / "overview.png")
    return [("overview.png", TITLE)]


def task(trials: Trials) -> tuple[list[Measure], str]:
    """-> RULER at all lengths; pass keys, where RULER was not run at two."""
    if len(asked := lengths(trials, "ruler")) > 1:
        return [measures.ruler(n) for n in asked], "RULER, mean of 13 tasks (%)"
    return [measures.passkey(n) for n in lengths(trials, "passkey")], "pass keys retrieved (%)"


def telling(trials: Trials) -> list[str]:
    """-> the base, and of methods that have recovered those of the title."""
    score = task(trials)[0]
    ppl, near = measures.ppl(trials.extended), [m for m in score if m.length == trials.extended]
    arms = [arm for arm in recovery.recovered(trials, trials.main) if trials.kind(arm) != "base"]
    by_ppl = ranked(trials, ppl, arms)
    found = [arm for arm in trials.main if trials.kind(arm) == "base"] + by_ppl[:1]
    for m in near:
        low = [arm for arm in by_ppl if trials.value(ppl, arm) <= LOW * trials.value(ppl, by_ppl[0])]
        found += [*ranked(trials, m, arms)[:1], *ranked(trials, m, low)[-1:]]
    found += [arm for arm in arms if (x := beyond.ratio(trials, arm)) is not None and beyond.breaks(x)]
    return list(dict.fromkeys(found))


def perplexity(ax: Any, trials: Trials, every: list[Curve], asked: list[int]) -> None:
    low, high = min(min(c.y) for c in every), MOST * max(c.y[0] for c in every if c.label in telling(trials))
    ax.set(yscale="log", ylim=(low / 1.05, high), title="Perplexity of held-out text", ylabel="perplexity")
    panel(ax, trials, every, asked, recovery.unrecovered(trials))
    ax.yaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)


def share(ax: Any, trials: Trials, every: list[Curve], asked: list[int], words: str) -> None:
    """Who has not recovered is grey: most of them are at 0."""
    ax.set(ylim=(-3, 103), title=words.split(",")[0], ylabel=words)
    panel(ax, trials, every, asked, [])


def panel(ax: Any, trials: Trials, every: list[Curve], asked: list[int], dashed: list[str]) -> None:
    """The telling ones and the dashed ones, each in its own colour in both panels; all others grey behind them."""
    named = telling(trials)
    others = [arm for arm in (*named, *recovery.unrecovered(trials)) if trials.kind(arm) != "base"]
    colour = dict(zip(others, COLOURS * len(others), strict=False))
    high, ends = ax.get_ylim()[1], []
    for curve in every:
        if curve.label not in (*named, *dashed):
            ax.plot(curve.x, curve.y, color=FIELD, linewidth=1.0, zorder=1)
            continue
        style = {"color": colour.get(curve.label, GREY), "linestyle": DASHED if curve.label in dashed else "-"}
        ax.plot(curve.x, curve.y, marker="o", markersize=3, zorder=3, **style)
        text = curve.label if curve.y[-1] <= high else f"{curve.label}: {curve.y[-1]:.0f}"
        ends.append((text, style["color"], curve.x[-1], min(curve.y[-1], high)))
    ax.set(xscale="log", xlabel="context length (tokens)")
    ax.xaxis.set(major_locator=FixedLocator(asked), minor_locator=NullLocator(), major_formatter=KILO)
    marks(trials).draw(ax)
    name_ends(ax, ends)
