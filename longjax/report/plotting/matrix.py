"""One heat map with its numbers written in the cells; lines are methods."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from longjax.report.plotting.style import KIND_COLOR


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Shares in 0..1 by line and column; NaN: not measured.

    Attributes:
      lines: names, in the colors of their `kinds`.

    """

    cells: np.ndarray
    lines: Sequence[str]
    kinds: Sequence[str]
    columns: Sequence[str]
    color_name: str


def draw_matrix(matrix: Matrix) -> Any:
    """Return the figure, with a thin line where kinds change."""
    width, height = 0.62 * len(matrix.columns) + 2.6, 0.27 * len(matrix.lines) + 1.4
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    image = ax.imshow(matrix.cells, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_facecolor("#dddddd")  # not measured
    ax.tick_params(length=0)
    ax.set_xticks(
        range(len(matrix.columns)), matrix.columns, rotation=40, ha="left", rotation_mode="anchor", fontsize=8
    )
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(matrix.lines)), matrix.lines, fontsize=8)
    for label, kind in zip(ax.get_yticklabels(), matrix.kinds, strict=True):
        label.set_color(KIND_COLOR.get(kind, "black"))
    _write_percentages(ax, matrix.cells)
    for i, (above, below) in enumerate(zip(matrix.kinds, matrix.kinds[1:], strict=False)):
        if above != below:
            ax.axhline(i + 0.5, color="white", linewidth=2.5)
    figure.colorbar(image, ax=ax, fraction=0.025, pad=0.015).set_label(matrix.color_name, fontsize=8)
    return figure


def _write_percentages(ax: Any, cells: np.ndarray) -> None:
    for (i, j), x in np.ndenumerate(cells):
        if np.isfinite(x):
            ax.text(j, i, f"{100 * x:.0f}", ha="center", va="center", fontsize=7, color=text_color(x))


def text_color(shade: float) -> str:
    """Return a color that can be read on a shade of the color map, 0..1: light on dark and dark on light."""
    return "white" if sum(mpl.colormaps["cividis"](shade)[:3]) < 1.5 else "#222222"
