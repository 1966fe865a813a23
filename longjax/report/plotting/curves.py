"""The curves that reports share: by context length, by position in the window, by number of examples."""

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import FixedLocator

from longjax.report.plotting.panels import Curve, Marks, log_panels, percent_panels
from longjax.report.plotting.style import KILO, NUMBER

POSITIONS = [16 * 4**i for i in range(10)]
SHOTS = [1, 3, 10, 30, 100, 300, 1000]


def perplexity_by_length(curves: Sequence[Curve], marks: Marks) -> Any:
    """Return the figure of perplexity over context length in tokens."""
    figure, axes = log_panels(curves, marks, headroom=2.0)
    _label(axes, _lengths(curves), KILO, "context length (tokens)", "perplexity")
    return figure


def score_by_length(curves: Sequence[Curve], marks: Marks) -> Any:
    """Return the figure of a score in per cent over context length in tokens."""
    figure, axes = percent_panels(curves, marks)
    _label(axes, _lengths(curves), KILO, "context length (tokens)", "score (%)")
    return figure


def loss_by_position(curves: Sequence[Curve], marks: Marks) -> Any:
    """Return the figure of the loss in nats over the position in the window."""
    figure, axes = log_panels(curves, marks, headroom=1.3)
    _label(axes, POSITIONS, KILO, "position in the window (tokens)", "loss (nats a token)")
    return figure


def accuracy_by_shots(curves: Sequence[Curve]) -> Any:
    """Return the figure of accuracy in per cent over the number of examples in the prompt."""
    figure, axes = percent_panels(curves, Marks())
    _label(axes, SHOTS, NUMBER, "examples in the prompt", "accuracy (%)")
    return figure


def _lengths(curves: Sequence[Curve]) -> list[float]:
    return sorted({x for curve in curves for x in curve.x})


def _label(axes: Any, places: Sequence[float], formatter: Any, x: str, y: str) -> None:
    """The y label stands beside the first panel of each line."""
    for ax in axes:
        ax.xaxis.set(major_locator=FixedLocator(places), major_formatter=formatter)
        ax.set_xlabel(x)
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel(y)
