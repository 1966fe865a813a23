"""Heat maps: one a method, all of one color scale."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from longjax.report.plotting.style import KIND_COLOR


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """The shares of one method, by row and column; NaN: not measured."""

    label: str
    kind: str
    cells: np.ndarray


@dataclasses.dataclass(frozen=True)
class HeatScale:
    """What all maps of a figure share: rows and columns, their names, and the lengths that are marked.

    Attributes:
      columns: lengths in tokens.
      rows: their labels.
      marks: (length, line style): a line after the last column of at most this length.

    """

    columns: Sequence[int]
    rows: Sequence[str]
    row_name: str
    color_name: str
    marks: Sequence[tuple[int, Any]] = ()
    column_name: str = "tokens"


def heat_maps(maps: Sequence[HeatMap], scale: HeatScale) -> Any:
    """Return the figure: at most six maps beside each other, titles in the color of the category."""
    width = max(1.7, 0.14 * len(scale.columns) + 0.5)
    height = max(1.1, 0.125 * len(scale.rows))
    columns = min(6, len(maps), max(1, int(12 / width)))
    count = -(-len(maps) // columns)
    columns = -(-len(maps) // count)  # as many in each line
    size = (width * columns + 1.0, (height + 0.5) * count + 0.5)
    figure, axes = plt.subplots(count, columns, figsize=size, squeeze=False, layout="constrained")
    images = [draw_heat_map(ax, m, scale) for ax, m in zip(axes.flat, maps, strict=False)]
    for i, ax in enumerate(axes.flat[: len(maps)]):
        ax.tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= len(maps))
        ax.set_ylabel(scale.row_name if i % columns == 0 else "")
        ax.set_xlabel(scale.column_name if i + columns >= len(maps) else "")
    for ax in axes.flat[len(maps) :]:
        ax.axis("off")
    figure.colorbar(images[0], ax=axes, fraction=0.03, pad=0.015, aspect=12 * count).set_label(
        scale.color_name, fontsize=8
    )
    kinds = dict.fromkeys(m.kind for m in maps)
    handles = [Line2D([], [], marker="s", linestyle="", color=KIND_COLOR.get(k, "black")) for k in kinds]
    style = {"ncols": min(len(kinds), columns + 1), "fontsize": 8, "handletextpad": 0.2, "columnspacing": 1.2}
    figure.legend(handles, list(kinds), loc="outside upper left", **style)
    return figure


def draw_heat_map(ax: Any, heat_map: HeatMap, scale: HeatScale) -> Any:
    """Draw one map and return its image."""
    image = ax.imshow(heat_map.cells, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=7)
    every = -(-len(scale.columns) // 12)
    ax.set_xticks(range(0, len(scale.columns), every), map(str, scale.columns[::every]), rotation=90)
    ax.set_yticks(range(len(scale.rows)), scale.rows)
    ax.set_title(heat_map.label, fontsize=8.5, color=KIND_COLOR.get(heat_map.kind, "black"), pad=3)
    ax.set_facecolor("#dddddd")  # not measured
    for length, style in scale.marks:
        ax.axvline(sum(n <= length for n in scale.columns) - 0.5, color="white", linewidth=1.4, linestyle=style)
    return image
