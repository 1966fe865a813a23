"""A study in one wide figure: perplexity and a task by length, with the methods named that stand out."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.plotting.labels import name_ends
from longjax.report.plotting.panels import Curve
from longjax.report.plotting.style import COLORS, GREY, KILO, NUMBER, draw, ticks
from longjax.report.study import recovery
from longjax.report.study.figures import curves_over, lengths_run, marks
from longjax.report.study.main_table import ranked
from longjax.report.study.questions import beyond
from longjax.report.study.trials import Trials

TITLE = (
    "Perplexity and a task by length, means of the seeds. Named: the base; who has the lowest perplexity and who the "
    "highest score where the training ended; who breaks beyond it; who scores least of those with a low perplexity; "
    "left, dashed, who has not recovered. Grey: all others."
)
OTHERS = "#d9d9d9"
PPL_LIMIT = 2.0  # times the base's perplexity at its own length: where the left axis ends
LOW_PPL = 1.25  # times the lowest perplexity: still a low one
DASHED = (0, (4, 2))


def write_overview(trials: Trials, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Write overview.png, if there is perplexity at two lengths at least. Returns (file name, title)."""
    lengths = lengths_run(trials, "perplexity", protocol="nested")
    if len(lengths) < 2:
        return []
    draw(folder / "overview.png", lambda: _figure(trials, lengths))
    return [("overview.png", TITLE)]


def _figure(trials: Trials, lengths: list[int]) -> Any:
    score, label = _task(trials)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9))
    figure.subplots_adjust(wspace=0.48)
    _perplexity_panel(left, trials, curves_over(trials, [measures.ppl(n) for n in lengths]), lengths)
    if len(score) > 1:
        _score_panel(right, trials, curves_over(trials, score, 100.0), [m.length or 0 for m in score], label)
    else:
        right.axis("off")
    return figure


def _task(trials: Trials) -> tuple[list[Measure], str]:
    """-> RULER at all lengths; pass keys, where RULER was not run at two."""
    if len(lengths := lengths_run(trials, "ruler")) > 1:
        return [measures.ruler(n) for n in lengths], "RULER, mean of 13 tasks (%)"
    return [measures.passkey(n) for n in lengths_run(trials, "passkey")], "pass keys retrieved (%)"


def named_arms(trials: Trials) -> list[str]:
    """Return the base and, of methods that have recovered, those of the title."""
    score = _task(trials)[0]
    ppl, near = measures.ppl(trials.extended), [m for m in score if m.length == trials.extended]
    arms = [arm for arm in recovery.recovered(trials, trials.main) if trials.kind(arm) != "base"]
    by_ppl = ranked(trials, ppl, arms)
    names = [arm for arm in trials.main if trials.kind(arm) == "base"] + by_ppl[:1]
    for m in near:
        low = [arm for arm in by_ppl if trials.value(ppl, arm) <= LOW_PPL * trials.value(ppl, by_ppl[0])]
        names += [*ranked(trials, m, arms)[:1], *ranked(trials, m, low)[-1:]]
    names += [arm for arm in arms if (x := beyond.ppl_ratio(trials, arm)) is not None and beyond.breaks(x)]
    return list(dict.fromkeys(names))


def _perplexity_panel(ax: Any, trials: Trials, shown: list[Curve], lengths: list[int]) -> None:
    low = min(min(c.y) for c in shown)
    high = PPL_LIMIT * max(c.y[0] for c in shown if c.label in named_arms(trials))
    ax.set(yscale="log", ylim=(low / 1.05, high), title="Perplexity of held-out text", ylabel="perplexity")
    _panel(ax, trials, shown, lengths, recovery.unrecovered(trials))
    ax.yaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)


def _score_panel(ax: Any, trials: Trials, shown: list[Curve], lengths: list[int], label: str) -> None:
    """Methods that have not recovered are grey: most of them are at 0."""
    ax.set(ylim=(-3, 103), title=label.split(",")[0], ylabel=label)
    _panel(ax, trials, shown, lengths, [])


def _panel(ax: Any, trials: Trials, shown: list[Curve], lengths: list[int], dashed: list[str]) -> None:
    """Named and dashed arms each have one color in both panels; all others are grey behind them."""
    named = named_arms(trials)
    colored = [arm for arm in (*named, *recovery.unrecovered(trials)) if trials.kind(arm) != "base"]
    color = dict(zip(colored, COLORS * len(colored), strict=False))
    high, ends = ax.get_ylim()[1], []
    for curve in shown:
        if curve.label not in (*named, *dashed):
            ax.plot(curve.x, curve.y, color=OTHERS, linewidth=1.0, zorder=1)
            continue
        style = {"color": color.get(curve.label, GREY), "linestyle": DASHED if curve.label in dashed else "-"}
        ax.plot(curve.x, curve.y, marker="o", markersize=3, zorder=3, **style)
        text = curve.label if curve.y[-1] <= high else f"{curve.label}: {curve.y[-1]:.0f}"
        ends.append((text, style["color"], curve.x[-1], min(curve.y[-1], high)))
    ax.set(xscale="log", xlabel="context length (tokens)")
    ax.xaxis.set(major_locator=FixedLocator(lengths), minor_locator=NullLocator(), major_formatter=KILO)
    marks(trials).draw(ax)
    name_ends(ax, ends)
