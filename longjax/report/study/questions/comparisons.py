"""Differences of arms with their intervals, as tables, words and figures; what is missing."""

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from longjax.report.measures import Measure
from longjax.report.plotting.style import KIND_COLOR, draw
from longjax.report.rows import Number, ReportSubject
from longjax.report.study.trials import Trials, Versus
from longjax.report.tables import Column, Table

COMMAND = "python -m experiments.study --preset=h200_100m"
VERDICTS = ("better", "worse", "within noise")
INTERVALS = (
    "Differences: mean over seeds +- half the range of the seeds (95 % interval of a paired bootstrap over the same "
    "questions)."
)


class Pair(NamedTuple):
    """The difference a - b; weights None: each arm's default."""

    a: str
    b: str
    weights_a: str | None = None
    weights_b: str | None = None

    def versus(self, trials: Trials, measure: Measure) -> Versus | None:
        """Return the difference; None: not both were run."""
        return trials.versus(measure, self.a, self.b, self.weights_a, self.weights_b)


LabeledPairs = Sequence[tuple[str, Pair]]


def difference_number(versus: Versus | None, column: Column) -> Number | None:
    """Return the difference with its interval, as the column shows it, for a mark."""
    if versus is None:
        return None
    parts = [x.difference for x in versus.by_seed.values()]
    low, high = (column.scale * x for x in versus.interval)
    return Number(
        value=versus.difference,
        stderr=float(np.std(versus.pooled.draws_M)),
        n=versus.pooled.n,
        mark=f"{low:+.{column.decimals}f} to {high:+.{column.decimals}f}",
        half_range=(max(parts) - min(parts)) / 2 if len(parts) > 1 else None,
    )


def difference_table(trials: Trials, file: str, title: str, pairs: LabeledPairs, measures: Sequence[Measure]) -> Table:
    """Return a line a pair, a column a measure."""
    lines = []
    for label, pair in pairs:
        who = ReportSubject(pair.a, pair.weights_a or "", trials.kind(pair.a), f"{pair.a} - {pair.b}", label)
        lines.append((who, tuple(difference_number(pair.versus(trials, m), m.column) for m in measures)))
    return Table(file, title, tuple(m.column for m in measures), tuple(lines), (INTERVALS,))


def value_table(
    trials: Trials, file: str, title: str, arms: Sequence[str], measures: Sequence[Measure], notes: Sequence[str] = ()
) -> Table:
    """Return a line an arm, a column a measure, means over seeds."""
    lines = tuple((trials.subject(arm), tuple(trials.number(m, arm) for m in measures)) for arm in arms)
    return Table(file, title, tuple(m.column for m in measures), lines, tuple(notes))


def verdict(versus: Versus, measure: Measure) -> str:
    """Return "better" or "worse", both significant, or "within noise"."""
    if not versus.significant:
        return "within noise"
    return "better" if (versus.difference < 0) == measure.is_ppl else "worse"


def signed(versus: Versus, column: Column) -> str:
    """Return the difference with its sign, as the column shows it."""
    return f"{column.scale * versus.difference:+.{column.decimals}f}"


def clause(trials: Trials, pairs: LabeledPairs, measure: Measure) -> str:
    """Return "better for a -0.14, b -0.13, worse for c +1.87, within noise for d +0.02"; "": nothing was run."""
    labels: dict[str, list[str]] = {name: [] for name in VERDICTS}
    for label, pair in pairs:
        if (versus := pair.versus(trials, measure)) is not None:
            labels[verdict(versus, measure)].append(f"{label} {signed(versus, measure.column)}")
    return ", ".join(f"{name} for {', '.join(labels[name])}" for name in VERDICTS if labels[name])


def forest(trials: Trials, pairs: LabeledPairs, measures: Sequence[Measure]) -> Any:
    """Return a forest plot: each pair's difference with its 95 % interval, and its seeds as small dots."""
    shown = [m for m in measures if any(pair.versus(trials, m) for _, pair in pairs)]
    size = (2.9 * len(shown) + 1.0, 0.26 * len(pairs) + 1.0)
    figure, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, m in zip(axes[0], shown, strict=True):
        for i, (_, pair) in enumerate(pairs):
            if (versus := pair.versus(trials, m)) is not None:
                _interval(ax, i, versus, m.column.scale, KIND_COLOR.get(trials.kind(pair.a), "black"))
        ax.axvline(0, color="#555555", linewidth=0.8)
        ax.set(title=m.name, xlabel="difference" + ("" if m.is_ppl else " (points)"))
    axes[0][0].set_yticks(range(len(pairs)), [label for label, _ in pairs])
    axes[0][0].invert_yaxis()
    return figure


def _interval(ax: Any, y: int, versus: Versus, scale: float, color: str) -> None:
    ax.plot([scale * x for x in versus.interval], [y, y], color=color, linewidth=1.2)
    ax.scatter(scale * versus.difference, y, s=26, color=color, marker="D" if versus.significant else "o", zorder=3)
    seeds = [scale * x.difference for x in versus.by_seed.values()]
    ax.scatter(seeds, [y] * len(seeds), s=7, color="#333333", zorder=4)


def missing_arms(trials: Trials, arms: Iterable[str]) -> tuple[str, ...]:
    """Return "yarn was not run" for each arm without trials."""
    return tuple(f"{arm} was not run" for arm in arms if arm not in trials.arms)


def missing_measures(trials: Trials, arms: Sequence[str], measures: Iterable[Measure]) -> tuple[str, ...]:
    """Return "PPL 16384 was not run" for each measure that none of the arms has."""
    return tuple(f"{m.name} was not run" for m in measures if not any(trials.number(m, arm) for arm in arms))


def draw_figure(folder: pathlib.Path, name: str, title: str, make_figure: Callable[[], Any]) -> tuple[str, str]:
    """Write the figure. Returns its name and title."""
    draw(folder / name, make_figure)
    return name, title
