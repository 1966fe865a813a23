"""One heat map with its numbers written in the cells: lines are methods, or whatever else has a name."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from longjax.report.plotting.style import KIND_COLOUR


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Shares in 0..1 by line and column; NaN: not measured.

    Attributes:
      lines: names, in the colours of their `kinds`.

    """

    cells: np.ndarray
    lines: Sequence[str]
    kinds: Sequence[str]
    columns: Sequence[str]
    colour_name: str


def matrix(one: Matrix) -> Any:
    """-> the figure; a thin line where kinds change."""
    width, height = 0.62 * len(one.columns) + 2.6, 0.27 * len(one.lines) + 1.4
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    image = ax.imshow(one.cells, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_facecolor("#dddddd")  # not measured
    ax.tick_params(length=0)
    ax.set_xticks(range(len(one.columns)), one.columns, rotation=40, ha="left", rotation_mode="anchor", fontsize=8)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(one.lines)), one.lines, fontsize=8)
    for label, kind in zip(ax.get_yticklabels(), one.kinds, strict=True):
        label.set_color(KIND_COLOUR.get(kind, "black"))
    numbers(ax, one.cells)
    for i, (above, below) in enumerate(zip(one.kinds, one.kinds[1:], strict=False)):
        if above != below:
            ax.axhline(i + 0.5, color="white", linewidth=2.5)
    figure.colorbar(image, ax=ax, fraction=0.025, pad=0.015).set_label(one.colour_name, fontsize=8)
    return figure


def numbers(ax: Any, cells: np.ndarray) -> None:
    """In per cent, light on dark and dark on light."""
    for (i, j), x in np.ndenumerate(cells):
        if np.isfinite(x):
            colour = "white" if sum(mpl.colormaps["cividis"](x)[:3]) < 1.5 else "#222222"
            ax.text(j, i, f"{100 * x:.0f}", ha="center", va="center", fontsize=7, color=colour)
