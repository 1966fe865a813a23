"""A study in pictures: perplexity by length, loss by position, pass keys by depth and length, and their relation."""

import pathlib
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator

from longjax.report.plotting.heat_maps import HeatScale, Map, heat_maps
from longjax.report.plotting.panels import Curve, Marks, log_panels
from longjax.report.plotting.scatter import scatter_of
from longjax.report.plotting.style import STYLE, save
from longjax.report.single_run.results import Cells, Result, Study


def draw(study: Study, folder: pathlib.Path) -> dict[str, str]:
    """Writes the pictures that the records allow. -> file name: title."""
    pictures = {
        "perplexity.png": ("Perplexity by length", perplexity, any(r.ppl for r in study.results)),
        "positions.png": ("Loss by position", positions, any(r.loss for r in study.results)),
        "passkey.png": ("Pass keys by depth and length", passkey, any(r.keys for r in study.results)),
        "needle.png": ("Needles by depth and length", needle, any(r.needles for r in study.results)),
        "scatter.png": ("Perplexity against pass keys", scatter, bool(_points(study))),
    }
    written = {}
    for name, (title, picture, possible) in pictures.items():
        if possible:
            with mpl.rc_context(STYLE):
                save(picture(study), folder / name)
            written[name] = title
    return written


def perplexity(study: Study) -> Any:
    curves = []
    for r in study.results:
        lengths = [n for n in sorted(r.ppl) if r.ppl[n]["value"] is not None]
        curves.append(Curve(r.method, r.kind, [float(n) for n in lengths], [r.ppl[n]["value"] for n in lengths]))
    figure, axes = log_panels([c for c in curves if c.x], Marks(study.trained, study.extended), most=2.0)
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator(sorted({n for r in study.results for n in r.ppl})))
        ax.set_xlabel("context length (tokens)")
    axes[0].set_ylabel("perplexity")
    return figure


def positions(study: Study) -> Any:
    curves = [
        Curve(r.method, r.kind, places, [r.loss[p]["value"] for p in places])
        for r in study.results
        if (places := sorted(r.loss))
    ]
    figure, axes = log_panels(curves, Marks(study.trained, study.extended), most=1.3)
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator([16 * 4**i for i in range(10)]))
        ax.set_xlabel("position in the window (tokens)")
    axes[0].set_ylabel("loss (nats a token)")
    return figure


def passkey(study: Study) -> Any:
    return retrieved(study, [(r, r.keys) for r in study.results if r.keys], "share of keys retrieved")


def needle(study: Study) -> Any:
    return retrieved(study, [(r, r.needles) for r in study.results if r.needles], "share of needles retrieved")


def retrieved(study: Study, shown: list[tuple[Result, Cells]], label: str) -> Any:
    """A heat map a method, all of one scale; the lines mark the trained and the extended length."""
    lengths = sorted({n for _, cells in shown for n in cells})
    depths = sorted({d for _, cells in shown for column in cells.values() for d in column})
    marks = ((study.trained, ":"), (study.extended, "-"))
    scale = HeatScale(lengths, [f"{100 * d:.0f}%" for d in depths], "depth", label, marks)
    return heat_maps([Map(r.method, r.kind, shares(cells, lengths, depths)) for r, cells in shown], scale)


def shares(cells: Cells, lengths: list[int], depths: list[float]) -> np.ndarray:
    """-> by depth and length."""
    missing = {"value": np.nan}
    return np.array([[cells.get(n, {}).get(d, missing)["value"] for n in lengths] for d in depths], float)


def scatter(study: Study) -> Any:
    """Who cannot be shown to scale stands at the right edge, the number beside the name."""
    figure, ax = plt.subplots(figsize=(7.2, 4.6))
    points = [(r.method, r.kind, x, y) for r, x, y in _points(study)]
    scatter_of(ax, points, (-9, 109))
    ax.set(xlabel=f"perplexity at {study.extended}", ylabel=f"% of pass keys retrieved at {study.extended}")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8)
    return figure


def _points(study: Study) -> list[tuple[Result, float, float]]:
    points = [(r, r.perplexity(study.extended), 100 * r.passkey(study.extended)) for r in study.results]
    return [point for point in points if np.isfinite(point[1:]).all()]
