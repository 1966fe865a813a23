"""What sections share: differences with their intervals, as numbers and words; orders of arms; what is missing."""

import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from longjax.report.plotting.style import KIND_COLOUR, STYLE, save
from longjax.report.rows import Number, ReportSubject
from longjax.report.study.measures import Measure
from longjax.report.study.trials import Trials, Versus
from longjax.report.tables import Column, Table

COMMAND = "python -m experiments.study --preset=h200_100m"
NOISE = "within noise for"
INTERVALS = (
    "Differences: mean over seeds +- half the range of the seeds (95 % interval of a paired bootstrap over the same "
    "questions)."
)


class Pair(NamedTuple):
    """a - b; weights None: those that are meant."""

    a: str
    b: str
    weights_a: str | None = None
    weights_b: str | None = None

    def versus(self, trials: Trials, measure: Measure) -> Versus | None:
        return trials.versus(measure, self.a, self.b, self.weights_a, self.weights_b)


def gap(found: Versus | None, column: Column) -> Number | None:
    """-> the difference; its mark is the interval as the column shows it."""
    if found is None:
        return None
    parts = [x.difference for x in found.by_seed.values()]
    return Number(
        value=found.difference,
        stderr=float(np.std(found.together.draws_M)),
        n=found.together.n,
        mark=interval(found, column),
        half_range=(max(parts) - min(parts)) / 2 if len(parts) > 1 else None,
    )


def interval(found: Versus, column: Column) -> str:
    low, high = (column.scale * x for x in found.interval)
    return f"{low:+.{column.decimals}f} to {high:+.{column.decimals}f}"


def in_words(found: Versus, column: Column) -> str:
    """-> "+0.31 (95 % interval +0.21 to +0.42)", and whether it is within noise."""
    words = f"{column.scale * found.difference:+.{column.decimals}f} (95 % interval {interval(found, column)}"
    return words + ("" if found.sure else "; within noise") + ")"


def differences(
    trials: Trials, file: str, title: str, pairs: Sequence[tuple[str, Pair]], measures: Sequence[Measure]
) -> Table:
    """-> a line a pair (label, pair), a column a measure."""
    lines = []
    for label, pair in pairs:
        who = ReportSubject(pair.a, pair.weights_a or "", trials.kind(pair.a), f"{pair.a} - {pair.b}", label)
        lines.append((who, tuple(gap(pair.versus(trials, m), m.column) for m in measures)))
    return Table(file, title, tuple(m.column for m in measures), tuple(lines), (INTERVALS,))


def values(
    trials: Trials, file: str, title: str, arms: Sequence[str], measures: Sequence[Measure], notes: Sequence[str] = ()
) -> Table:
    """-> a line an arm, a column a measure, means over seeds."""
    lines = tuple((trials.subject(arm), tuple(trials.number(m, arm) for m in measures)) for arm in arms)
    return Table(file, title, tuple(m.column for m in measures), lines, tuple(notes))


def sorted_out(trials: Trials, pairs: Iterable[tuple[str, Pair]], measure: Measure) -> dict[str, list[str]]:
    """-> labels of pairs by what their difference is: "better", "worse" (both surely) or "within noise"."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "within noise": []}
    for label, pair in pairs:
        versus = pair.versus(trials, measure)
        if versus is not None:
            found[verdict(versus, measure)].append(f"{label} {signed(versus, measure.column)}")
    return found


def verdict(versus: Versus, measure: Measure) -> str:
    if not versus.sure:
        return "within noise"
    return "better" if (versus.difference < 0) == measure.is_ppl else "worse"


def signed(versus: Versus, column: Column) -> str:
    return f"{column.scale * versus.difference:+.{column.decimals}f}"


def clause(trials: Trials, pairs: Sequence[tuple[str, Pair]], measure: Measure, *, noise: bool = True) -> str:
    """-> "surely better for a -0.14 and b -0.13, surely worse for c +1.87, within noise for d +0.02"."""
    found = sorted_out(trials, pairs, measure)
    words = {"better": "surely better for", "worse": "surely worse for"} | ({"within noise": NOISE} if noise else {})
    return ", ".join(f"{said} {listed(found[what])}" for what, said in words.items() if found[what])


def forest(trials: Trials, pairs: Sequence[tuple[str, Pair]], measures: Sequence[Measure]) -> Any:
    """-> a panel a measure: each pair's difference with its 95 % interval, and its seeds as small dots."""
    asked = [m for m in measures if any(pair.versus(trials, m) for _, pair in pairs)]
    size = (2.9 * len(asked) + 1.0, 0.26 * len(pairs) + 1.0)
    figure, axes = plt.subplots(1, len(asked), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, m in zip(axes[0], asked, strict=True):
        scale = m.column.scale
        for i, (_, pair) in enumerate(pairs):
            found = pair.versus(trials, m)
            if found is not None:
                colour = KIND_COLOUR.get(trials.kind(pair.a), "black")
                ax.plot([scale * x for x in found.interval], [i, i], color=colour, linewidth=1.2)
                ax.scatter(scale * found.difference, i, s=26, color=colour, marker="D" if found.sure else "o", zorder=3)
                seeds = [scale * x.difference for x in found.by_seed.values()]
                ax.scatter(seeds, [i] * len(seeds), s=7, color="#333333", zorder=4)
        ax.axvline(0, color="#555555", linewidth=0.8)
        ax.set(title=m.name, xlabel="difference" + ("" if m.is_ppl else " (points)"))
    axes[0][0].set_yticks(range(len(pairs)), [label for label, _ in pairs])
    axes[0][0].invert_yaxis()
    return figure


def order(trials: Trials, arms: Sequence[str], measure: Measure) -> list[str]:
    """-> those that have a number, the best first."""
    value = {arm: trials.value(measure, arm) for arm in arms}
    known = [arm for arm in arms if math.isfinite(value[arm])]
    return sorted(known, key=lambda arm: value[arm] if measure.is_ppl else -value[arm])


def absent(trials: Trials, arms: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{arm} was not run" for arm in arms if arm not in trials.arms)


def unasked(trials: Trials, arms: Sequence[str], measures: Iterable[Measure]) -> tuple[str, ...]:
    """-> measures that none of the arms has."""
    return tuple(f"{m.name} was not asked" for m in measures if not any(trials.number(m, arm) for arm in arms))


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def draw(folder: pathlib.Path, name: str, title: str, picture: Callable[[], Any]) -> tuple[str, str]:
    """Writes the picture. -> its name and title."""
    with mpl.rc_context(STYLE):
        save(picture(), folder / name)
    return name, title
