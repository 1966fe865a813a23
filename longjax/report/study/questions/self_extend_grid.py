"""(d) Self-Extend: which window and group, and which map from distances to places?"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from longjax.report.rows import ReportSubject
from longjax.report.study.measures import Measure, needle, passkey, ppl
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import COMMAND, Pair, absent, differences, draw, unasked, values
from longjax.report.study.text import apart, listed, text
from longjax.report.study.trials import Trials
from longjax.report.tables import Table

FLOOR, LEAKY = "self_extend", "leaky_rerope"
OCTAVES = "self_extend_octaves"  # and its window
CLOSE = 1.05  # times the lowest perplexity
ONE_SEED = (
    "All cells but the main one and all other maps were run on one seed: intervals are over its questions alone, and "
    "nothing is sure of another base."
)
MAIN_CELL = (512, 16)  # of the grid, which the main arm is
NAME = re.compile(rf"{FLOOR}_w(\d+)_g(\d+)$")
TITLE = "Self-Extend: which window and group, and which map?"
PROTOCOL = """Self-Extend keeps distances below a window as they are and divides the others by a group, rounded down.
A grid of windows and groups is put to perplexity, pass keys and needle numbers; nothing is trained. Two other maps
stand beside it: the leaky one of ReRoPE divides without rounding, and octaves squeeze each doubling of distance beyond
the window twice as much as the one before, so that places grow like the logarithm of the distance. The largest place of
L tokens, W + (L - W) / G, is compared with the base's context."""


class Cell(NamedTuple):
    window: int
    group: int

    def largest(self, length: int) -> int:
        """-> the largest distance at which a key of so many tokens is placed."""
        return (length - 1) // self.group + self.window - self.window // self.group

    def __str__(self) -> str:
        return f"window {self.window} group {self.group}"


Grid = dict[Cell, str]  # the arm of each cell


def section(trials: Trials, folder: pathlib.Path) -> Section:
    grid, end = cells(trials), trials.extended
    others = [arm for arm in trials.arms if arm == LEAKY or arm.startswith(OCTAVES)]
    measures = [ppl(end), ppl(trials.longest), passkey(end), needle(end, "number")]
    missing = absent(trials, [FLOOR, LEAKY]) + ((f"{OCTAVES} was not run",) if others in ([], [LEAKY]) else ())
    missing += () if len(grid) > 1 else ("the grid of windows and groups was not run",)
    if not grid and not others:
        return Section(TITLE, PROTOCOL, missing=missing)
    tables, figures, finding = [], (), []
    if len(grid) > 1:
        tables.append(table(trials, grid, measures))
        title = f"Window and group; a frame: places stay within {trials.trained}. Mean of the seeds."
        figures = (draw(folder, "d_self_extend_grid.png", title, lambda: picture(trials, grid, measures)),)
        finding += [line] if (line := within(trials, grid, measures)) else []
        finding.append(f"Best: {'; '.join(said for m in measures if (said := best(trials, grid, m)))}.")
    maps = [arm for arm in (FLOOR, *others) if arm in trials.arms]
    if len(maps) > 1:
        lengths = [trials.trained, *(trials.trained * 2**n for n in range(1, 9))]
        shorter = [ppl(n) for n in lengths if n < end]
        tables.append(values(trials, "d_maps", "Maps", maps, [*shorter, *measures]))
    if len(maps) > 1 and FLOOR in maps:
        pairs = [(arm, Pair(arm, FLOOR)) for arm in maps if arm != FLOOR]
        tables.append(differences(trials, "d_maps_differences", "Other maps minus Self-Extend's", pairs, measures))
        finding.append(
            f"Other maps minus Self-Extend's: {'; '.join(against(trials, *pair, measures) for pair in pairs)}."
        )
    if caution := seeds_said(trials, [*grid.values(), *others]):
        finding.append(caution)
    return Section(
        TITLE, PROTOCOL, tuple(tables), figures, tuple(finding), COMMAND,
        missing + unasked(trials, [*grid.values(), *others], measures),
    )  # fmt: skip


def against(trials: Trials, label: str, pair: Pair, measures: Sequence[Measure]) -> str:
    """-> the map's differences, each with its interval, where there is one."""
    parts = []
    for m in measures:
        found = pair.versus(trials, m)
        if found is not None and abs(found.difference) > found.least:
            parts.append(f"{m.name} {apart(m, found)}")
    return f"{label} {listed(parts)}" if parts else f"{label} makes no difference"


def cells(trials: Trials) -> Grid:
    """-> in order; the main arm is one of the cells."""
    found = {Cell(int(m[1]), int(m[2])): arm for arm in trials.arms if (m := NAME.match(arm))}
    if FLOOR in trials.arms:
        found.setdefault(Cell(*MAIN_CELL), FLOOR)
    return dict(sorted(found.items()))


def table(trials: Trials, grid: Grid, measures: Sequence[Measure]) -> Table:
    lines = []
    for cell, arm in grid.items():
        who = trials.subject(arm)
        who = ReportSubject(who.method, who.weights, who.kind, who.run, f"{cell}: to {cell.largest(trials.extended)}")
        lines.append((who, tuple(trials.number(m, arm) for m in measures)))
    note = f"After the colon: the largest place at {trials.extended} tokens; the base knows {trials.trained}."
    return Table("d_grid", "Window and group", tuple(m.column for m in measures), tuple(lines), (note,))


def best(trials: Trials, grid: Grid, measure: Measure) -> str:
    """-> "PPL 16384 12.04 (window 1024 group 64)"; "": nobody was asked."""
    known = {cell: v for cell, arm in grid.items() if math.isfinite(v := trials.value(measure, arm))}
    if not known:
        return ""
    top = (min if measure.is_ppl else max)(known.values())
    first = [cell for cell, v in known.items() if v == top]
    where = str(first[0]) if len(first) == 1 else f"{len(first)} of {len(known)} cells"
    return f"{measure.name} {text(measure, top)} ({where})"


def sides(trials: Trials, grid: Grid, measure: Measure) -> tuple[list[float], list[float]]:
    """-> values of the cells whose places the base knows, and of the others."""
    found: tuple[list[float], list[float]] = ([], [])
    for cell, arm in grid.items():
        if math.isfinite(v := trials.value(measure, arm)):
            found[cell.largest(measure.length or 0) > trials.trained].append(v)
    return found


def within(trials: Trials, grid: Grid, measures: Sequence[Measure]) -> str:
    """-> the answer: cells whose places the base knows beside the others."""
    parts, close = [], []
    for m in measures:
        inside, outside = sides(trials, grid, m)
        if inside and outside:
            close += [max(inside) <= CLOSE * min(inside)] if m.is_ppl else []
            ends = [f"{text(m, min(side))} to {text(m, max(side))}" for side in (inside, outside)]
            parts.append(f"{m.name} {ends[0]}, the {len(outside)} others {ends[1]}")
    if not parts:
        return ""
    rule = f"any window and group will do whose largest place stays within {trials.trained}: "
    head = rule if close and all(close) else f"by whether the largest place stays within {trials.trained}: "
    return f"{head[0].upper()}{head[1:]}such cells have {'; '.join(parts)}."


def seeds_said(trials: Trials, arms: Sequence[str]) -> str:
    """-> a caution where one seed was run of what others stand beside."""
    few = [arm for arm in arms if sum(bool(trials.of(arm, seed)) for seed in trials.seeds) == 1]
    return ONE_SEED if few and len(trials.seeds) > 1 else ""


@dataclasses.dataclass(frozen=True)
class ColorScale:
    """How a measure is coloured: light is good."""

    low: float
    high: float
    is_ppl: bool

    def shade(self, value: float) -> float:
        """-> 0..1; perplexities by their logarithm, and anything beyond 3 times the lowest is dark."""
        if not self.is_ppl:
            return value
        high = min(self.high, 3 * self.low)
        return 1 - math.log(min(value, high) / self.low) / max(math.log(high / self.low), 1e-9)


def picture(trials: Trials, grid: Grid, measures: Sequence[Measure]) -> Any:
    asked = [m for m in measures if any(math.isfinite(trials.value(m, arm)) for arm in grid.values())]
    windows, groups = (sorted({cell[i] for cell in grid}) for i in (0, 1))
    size = (0.62 * len(groups) + 0.45, 0.42 * len(windows) + 0.9)
    figure, axes = plt.subplots(
        1, len(asked), figsize=(size[0] * len(asked) + 0.6, size[1]), squeeze=False, layout="constrained"
    )
    for i, (ax, m) in enumerate(zip(axes[0], asked, strict=True)):
        numbers = np.full((len(windows), len(groups)), np.nan)
        for cell, arm in grid.items():
            numbers[windows.index(cell.window), groups.index(cell.group)] = trials.value(m, arm)
        known = numbers[np.isfinite(numbers)]
        panel(ax, numbers, ColorScale(float(known.min()), float(known.max()), m.is_ppl), m)
        frames(ax, windows, groups, m.length or 0, trials.trained)
        ax.set_xticks(range(len(groups)), map(str, groups))
        ax.set_yticks(range(len(windows)), map(str, windows) if i == 0 else [""] * len(windows))
        ax.set(title=m.name, xlabel="group", ylabel="window" if i == 0 else "")
    return figure


def panel(ax: Any, numbers: np.ndarray, scale: ColorScale, measure: Measure) -> None:
    shades = np.vectorize(lambda x: scale.shade(x) if math.isfinite(x) else math.nan)(numbers)
    ax.imshow(shades, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_facecolor("#dddddd")  # not measured
    for (i, j), x in np.ndenumerate(numbers):
        if math.isfinite(x):
            colour = "white" if sum(mpl.colormaps["cividis"](shades[i, j])[:3]) < 1.5 else "#222222"
            text = f"{x:.1f}" if measure.is_ppl else f"{100 * x:.0f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)


def frames(ax: Any, windows: list[int], groups: list[int], length: int, trained: int) -> None:
    """Around the cells whose places the base knows."""
    for i, window in enumerate(windows):
        for j, group in enumerate(groups):
            if Cell(window, group).largest(length) <= trained:
                box = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="#d55e00", linewidth=1.6)
                ax.add_patch(box)
