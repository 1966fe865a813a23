"""(d) Self-Extend: which window and group, and which map from distances to positions?"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from longjax.report.measures import Measure, needle, passkey, ppl
from longjax.report.plotting.matrix import text_color
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import (
    COMMAND,
    Pair,
    clause,
    difference_table,
    draw_figure,
    missing_arms,
    missing_measures,
    value_table,
)  # fmt: skip
from longjax.report.study.text import format_value
from longjax.report.study.trials import Trials
from longjax.report.tables import Table

FLOOR, LEAKY = "self_extend", "leaky_rerope"
OCTAVES = "self_extend_octaves"  # and its window
CLOSE = 1.05  # times the lowest perplexity
ONE_SEED = "All cells but the main one and all other maps were run on one seed."
MAIN_CELL = (512, 16)  # of the grid, which the main arm is
NAME = re.compile(rf"{FLOOR}_w(\d+)_g(\d+)$")
TITLE = "Self-Extend: which window and group, and which map?"
PROTOCOL = """Self-Extend keeps distances below a window as they are and divides the others by a group, rounded down.
A grid of windows and groups is evaluated by perplexity, pass keys and needle numbers; nothing is trained. Two other
maps stand beside it: the leaky one of ReRoPE divides without rounding, and octaves squeeze each doubling of distance
beyond the window twice as much as the one before, so that positions grow like the logarithm of the distance. The
largest position of L tokens, W + (L - W) / G, is compared with the base's context."""


class Cell(NamedTuple):
    """A cell of the grid."""

    window: int
    group: int

    def largest(self, length: int) -> int:
        """Return the largest relative position of a key in a context of `length` tokens."""
        return (length - 1) // self.group + self.window - self.window // self.group

    def __str__(self) -> str:
        return f"window {self.window} group {self.group}"


Grid = dict[Cell, str]  # the arm of each cell


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare windows and groups of Self-Extend, and other maps with its own."""
    grid, end = grid_arms(trials), trials.extended
    others = [arm for arm in trials.arms if arm == LEAKY or arm.startswith(OCTAVES)]
    measures = [ppl(end), ppl(trials.longest), passkey(end), needle(end, "number")]
    missing = missing_arms(trials, [FLOOR, LEAKY]) + ((f"{OCTAVES} was not run",) if others in ([], [LEAKY]) else ())
    missing += () if len(grid) > 1 else ("the grid of windows and groups was not run",)
    if not grid and not others:
        return Section(TITLE, PROTOCOL, missing=missing)
    tables, figures, findings = [], (), []
    if len(grid) > 1:
        tables.append(_grid_table(trials, grid, measures))
        title = f"Window and group; a frame: positions stay within {trials.trained}. Mean of the seeds."
        figures = (draw_figure(folder, "d_self_extend_grid.png", title, lambda: _figure(trials, grid, measures)),)
        findings.append(within_context(trials, grid, measures) or best_cell(trials, grid, measures[0]))
    maps = [arm for arm in (FLOOR, *others) if arm in trials.arms]
    if len(maps) > 1:
        lengths = [trials.trained, *(trials.trained * 2**n for n in range(1, 9))]
        columns = [*(ppl(n) for n in lengths if n < end), *measures]
        tables.append(value_table(trials, "d_maps", "Maps", maps, columns))
    if len(maps) > 1 and FLOOR in maps:
        pairs = [(arm, Pair(arm, FLOOR)) for arm in maps if arm != FLOOR]
        title = "Other maps minus Self-Extend's"
        tables.append(difference_table(trials, "d_maps_differences", title, pairs, measures))
        findings.append(f"{title}: {measures[0].name} {clause(trials, pairs, measures[0])}.")
    missing += missing_measures(trials, [*grid.values(), *others], measures)
    finding = " ".join(filter(None, findings))
    return Section(TITLE, PROTOCOL, tuple(tables), figures, finding, command=COMMAND, missing=missing)


def grid_arms(trials: Trials) -> Grid:
    """Return the cells in order; the main arm is one of them."""
    grid = {Cell(int(m[1]), int(m[2])): arm for arm in trials.arms if (m := NAME.match(arm))}
    if FLOOR in trials.arms:
        grid.setdefault(Cell(*MAIN_CELL), FLOOR)
    return dict(sorted(grid.items()))


def _grid_table(trials: Trials, grid: Grid, measures: Sequence[Measure]) -> Table:
    lines = []
    for cell, arm in grid.items():
        label = f"{cell}: to {cell.largest(trials.extended)}"
        lines.append((trials.subject(arm, label=label), tuple(trials.number(m, arm) for m in measures)))
    notes = [
        f"After the colon: the largest position at {trials.extended} tokens; the base was trained to {trials.trained}."
    ]
    once = any(sum(bool(trials.rows_of(arm, seed)) for seed in trials.seeds) == 1 for arm in grid.values())
    notes += [ONE_SEED] if once and len(trials.seeds) > 1 else []
    return Table("d_grid", "Window and group", tuple(m.column for m in measures), tuple(lines), tuple(notes))


def _sides(trials: Trials, grid: Grid, measure: Measure) -> tuple[list[float], list[float]]:
    """-> values of the cells whose positions stay within the base's context, and of the others."""
    sides: tuple[list[float], list[float]] = ([], [])
    for cell, arm in grid.items():
        if math.isfinite(v := trials.value(measure, arm)):
            sides[cell.largest(measure.length or 0) > trials.trained].append(v)
    return sides


def within_context(trials: Trials, grid: Grid, measures: Sequence[Measure]) -> str:
    """Return the answer: cells whose positions stay within the base's context beside the others; "": not both."""
    parts, close = [], []
    for m in measures:
        inside, outside = _sides(trials, grid, m)
        if inside and outside:
            close += [max(inside) <= CLOSE * min(inside)] if m.is_ppl else []
            ends = [f"{format_value(m, min(side))} to {format_value(m, max(side))}" for side in (inside, outside)]
            parts.append(f"{m.name} {ends[0]}, the {len(outside)} others {ends[1]}")
    if not parts:
        return ""
    rule = f"any window and group will do whose largest position stays within {trials.trained}: "
    head = rule if close and all(close) else f"by whether the largest position stays within {trials.trained}: "
    return f"{head[0].upper()}{head[1:]}such cells have {'; '.join(parts)}."


def best_cell(trials: Trials, grid: Grid, measure: Measure) -> str:
    """Return "Best by PPL 16384: window 1024 group 64 (12.04)."; "": nothing was run."""
    known = {cell: v for cell, arm in grid.items() if math.isfinite(v := trials.value(measure, arm))}
    if not known:
        return ""
    best = (min if measure.is_ppl else max)(known, key=lambda cell: known[cell])
    return f"Best by {measure.name}: {best} ({format_value(measure, known[best])})."


@dataclasses.dataclass(frozen=True)
class ColorScale:
    """The shades of a measure from its lowest to its highest value: light is good."""

    low: float
    high: float
    is_ppl: bool

    def shade(self, value: float) -> float:
        """Return 0..1; perplexities by their logarithm, and anything beyond 3 times the lowest is dark."""
        if not self.is_ppl:
            return value
        high = min(self.high, 3 * self.low)
        return 1 - math.log(min(value, high) / self.low) / max(math.log(high / self.low), 1e-9)


def _figure(trials: Trials, grid: Grid, measures: Sequence[Measure]) -> Any:
    shown = [m for m in measures if any(math.isfinite(trials.value(m, arm)) for arm in grid.values())]
    windows, groups = (sorted({cell[i] for cell in grid}) for i in (0, 1))
    size = ((0.62 * len(groups) + 0.45) * len(shown) + 0.6, 0.42 * len(windows) + 0.9)
    figure, axes = plt.subplots(1, len(shown), figsize=size, squeeze=False, layout="constrained")
    for i, (ax, m) in enumerate(zip(axes[0], shown, strict=True)):
        numbers = np.full((len(windows), len(groups)), np.nan)
        for cell, arm in grid.items():
            numbers[windows.index(cell.window), groups.index(cell.group)] = trials.value(m, arm)
        known = numbers[np.isfinite(numbers)]
        _panel(ax, numbers, ColorScale(float(known.min()), float(known.max()), m.is_ppl), m)
        _frames(ax, windows, groups, m.length or 0, trials.trained)
        ax.set_xticks(range(len(groups)), map(str, groups))
        ax.set_yticks(range(len(windows)), map(str, windows) if i == 0 else [""] * len(windows))
        ax.set(title=m.name, xlabel="group", ylabel="window" if i == 0 else "")
    return figure


def _panel(ax: Any, numbers: np.ndarray, scale: ColorScale, measure: Measure) -> None:
    shades = np.vectorize(lambda x: scale.shade(x) if math.isfinite(x) else math.nan)(numbers)
    ax.imshow(shades, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_facecolor("#dddddd")  # not measured
    for (i, j), x in np.ndenumerate(numbers):
        if math.isfinite(x):
            text = f"{x:.1f}" if measure.is_ppl else f"{100 * x:.0f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color=text_color(shades[i, j]))


def _frames(ax: Any, windows: list[int], groups: list[int], length: int, trained: int) -> None:
    """Around the cells whose positions stay within the base's context."""
    for i, window in enumerate(windows):
        for j, group in enumerate(groups):
            if Cell(window, group).largest(length) <= trained:
                box = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="#d55e00", linewidth=1.6)
                ax.add_patch(box)
