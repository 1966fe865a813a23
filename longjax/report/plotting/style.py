"""The style of all figures: colors and markers of method categories, ticks, files."""

import io
import pathlib
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter

from longjax import files
from longjax.methods.method import CATEGORIES

STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9.5, "lines.linewidth": 1.5,
    "axes.titleweight": "bold", "axes.grid": True, "grid.color": "#e8e8e8", "savefig.dpi": 160, "legend.frameon": False,
}  # fmt: skip
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b5ea7", "#b8860b", "#17a2b8", "#7f3b08", "#111111", "#6b8e23")
GREY = "#8a8a8a"
KIND_COLOR = dict(zip(CATEGORIES, (GREY, "#0072b2", "#009e73", "#d55e00", "#b8860b"), strict=True))
KIND_MARKER = dict(zip(CATEGORIES, "soD^v", strict=True))
NUMBER = FuncFormatter(lambda x, _: f"{x:g}")
KILO = FuncFormatter(lambda x, _: f"{x / 1024:g}K" if x >= 1024 else f"{x:g}")


def ticks(low: float, high: float) -> FixedLocator:
    """Return round numbers for a log axis from `low` to `high`, as many as it has room for."""
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high < 6 * low else (1, 2, 5)
    if high < 2 * low:
        steps = (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.2, 2.4, 2.7, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)
    return FixedLocator([m * 10.0**e for e in range(-2, 6) for m in steps])


def save(figure: Any, path: pathlib.Path) -> None:
    """Write the figure as a PNG, atomically, and close it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", bbox_inches="tight")
    plt.close(figure)
    files.write_atomically(path, content.getvalue())


def draw(path: pathlib.Path, make_figure: Any) -> None:
    """Write the figure that `make_figure` returns, in the common style."""
    with mpl.rc_context(STYLE):
        save(make_figure(), path)
