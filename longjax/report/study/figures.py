"""The main figures of a study of several seeds: means over them, curves in panels of few."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter

from longjax.report.aggregates import RULER_TASKS
from longjax.report.evaluation import figures
from longjax.report.evaluation.benchmark_tables import rows_of_suite
from longjax.report.evaluation.figures import Figure
from longjax.report.plotting.matrix import Matrix, matrix
from longjax.report.plotting.panels import Curve, Marks, log_panels, percent_panels
from longjax.report.plotting.style import STYLE, save
from longjax.report.plotting.training_curves import training_curves
from longjax.report.rows import Evaluations
from longjax.report.study import measures
from longjax.report.study.measures import Measure
from longjax.report.study.seed_means import averaged
from longjax.report.study.trials import Trials
from longjax.training import metrics_writer

WINDOWS = ("lm_infinite", "streaming_llm", "sliding_window")  # far keys are not seen at all


KILO = FuncFormatter(lambda x, _: f"{x / 1024:g}K" if x >= 1024 else f"{x:g}")


def draw_figures(trials: Trials, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Writes what the trials allow. -> (file name, title) in the order of the page."""
    means = averaged(trials, trials.main)
    written = []
    for part in (
        perplexity_figure(trials),
        positions_figure(trials, means),
        ruler_figure(trials),
        tasks(trials),
        maps(means),
        shots(trials, means),
    ):
        for name, title, picture in part:
            with mpl.rc_context(STYLE):
                save(picture(), folder / name)
            written.append((name, title))
    return written + training(trials, folder)


def family(trials: Trials, arm: str) -> str:
    """-> the kind; of which the largest is two panels."""
    kind = trials.kind(arm)
    return kind if kind != "approximate frozen" else "frozen windows" if arm in WINDOWS else "frozen, positions mapped"


def lengths(trials: Trials, benchmark: str, **said: str) -> list[int]:
    """-> those at which any main arm has rows of this benchmark."""
    found = set()
    for arm in trials.main:
        rows = [r for seed in trials.seeds for r in trials.of(arm, seed) if r["benchmark"] == benchmark]
        found |= {r["length"] for r in rows if all(r.get(name) == value for name, value in said.items())}
    return sorted(found)


def curves(trials: Trials, asked: list[Measure], scale: float = 1.0) -> list[Curve]:
    """-> of each main arm a point a measure, with half the range of the seeds as its error."""
    found = []
    for arm in trials.main:
        numbers = [(float(m.length or 0), x) for m in asked if (x := trials.number(m, arm)) is not None]
        good = [(at, scale * x.value, scale * (x.half_range or 0.0)) for at, x in numbers if x.value is not None]
        x, y, error = ([point[i] for point in good] for i in range(3))
        found += [Curve(arm, family(trials, arm), x, y, error)] * bool(good)
    return found


def by_length(figure: Any, axes: Any, ticks: list[int], y: str) -> Any:
    for ax in axes:
        ax.xaxis.set(major_locator=FixedLocator(ticks), major_formatter=KILO)
        ax.set_xlabel("context length (tokens)")
    label(axes, y)
    return figure


def label(axes: Any, y: str) -> None:
    """Beside the first panel of each line."""
    for ax in axes:
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel(y)


def marks(trials: Trials) -> Marks:
    return Marks(trials.trained, trials.extended)


def perplexity_figure(trials: Trials) -> Iterator[Figure]:
    asked = lengths(trials, "perplexity", protocol="nested")
    found = curves(trials, [measures.ppl(n) for n in asked])
    if found:
        yield (
            "perplexity.png",
            "Perplexity by length. Bars: both seeds.",
            lambda: by_length(*log_panels(found, marks(trials), most=2.0, columns=3), asked, "perplexity"),
        )


def positions_figure(trials: Trials, means: Evaluations) -> Iterator[Figure]:
    """Of the longest windows, a point a bucket of positions."""
    found, longest = [], max(lengths(trials, "perplexity", protocol="nested", task="position_nll"), default=0)
    for who, rows in means.rows.items():
        mine = [r for r in rows if r["task"] == "position_nll" and r["protocol"] == "nested" and r["length"] == longest]
        points = sorted((r["position"], r["value"]) for r in mine if r["value"] is not None)
        found += [Curve(who.label, family(trials, who.method), [p for p, _ in points], [v for _, v in points])] * bool(
            points
        )
    if found:
        title = (
            f"Loss by position in windows of {longest} tokens, mean of the seeds. Peaks that all share are the text's."
        )
        yield "positions.png", title, lambda: by_position(trials, found)


def by_position(trials: Trials, found: list[Curve]) -> Any:
    figure, axes = log_panels(found, marks(trials), most=1.3, columns=3)
    for ax in axes:
        ax.xaxis.set(major_locator=FixedLocator([16 * 4**i for i in range(10)]), major_formatter=KILO)
        ax.set_xlabel("position in the window (tokens)")
    label(axes, "loss (nats a token)")
    return figure


def ruler_figure(trials: Trials) -> Iterator[Figure]:
    asked = lengths(trials, "ruler")
    found = curves(trials, [measures.ruler(n) for n in asked], 100.0)
    if found:
        yield (
            "ruler.png",
            "RULER by length, mean of its tasks. Bars: both seeds.",
            lambda: by_length(*percent_panels(found, marks(trials), columns=3), asked, "score (%)"),
        )


def tasks(trials: Trials) -> Iterator[Figure]:
    """RULER's tasks at the length of the training, and at the base's."""
    for length in (trials.extended, trials.trained):
        cells = np.array([[trials.value(measures.ruler(length, t), arm) for t in RULER_TASKS] for arm in trials.main])
        if not cells.size or np.isnan(cells).all():
            continue
        kept = [i for i in range(len(cells)) if np.isfinite(cells[i]).any()]
        arms = [trials.main[i] for i in kept]
        one = Matrix(cells[kept], arms, [trials.kind(arm) for arm in arms], RULER_TASKS, "score")
        yield f"ruler_{length}.png", f"RULER at {length} by task, %, mean of the seeds.", lambda one=one: matrix(one)


def maps(means: Evaluations) -> Iterator[Figure]:
    """Needles and pass keys by depth and length."""
    for benchmark, what in (("needle", "Needle in a haystack"), ("passkey", "Pass keys")):
        for suite in means.suites(benchmark):
            lines = rows_of_suite(means, suite, lambda r: (r["length"], r["depth"]))
            if lines and all(key[1] is not None for x in lines.values() for key in x):
                variant = ", ".join(str(value) for name, value in suite.variant if name != "haystack" and value)
                title = f"{what} by depth and length ({variant}), mean of the seeds. Lines: trained, extended."
                words = "share of keys said" if benchmark == "passkey" else "share of facts found"
                name = f"{benchmark}_{variant.replace(', ', '_')}.png"
                yield name, title, lambda lines=lines, words=words: figures.by_depth(means, lines, words)


def shots(trials: Trials, means: Evaluations) -> Iterator[Figure]:
    for suite in means.suites("manyshot"):
        found = []
        for who, x in rows_of_suite(means, suite, lambda r: r["shots"]).items():
            places, values = sorted(x), [100 * (x[n].value or 0.0) for n in sorted(x)]
            errors = [100 * (x[n].stderr or 0.0) for n in places]
            found.append(Curve(who.label, family(trials, who.method), [float(n) for n in places], values, errors))
        title = "Many-shot TREC by number of examples, mean of the seeds. Bars: standard errors of the questions."
        yield "manyshot.png", title, lambda found=found: by_shots(found)


def by_shots(found: list[Curve]) -> Any:
    figure, axes = percent_panels(found, Marks(None, None), columns=3)
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator([1, 3, 10, 30, 100, 300, 1000]))
        ax.set_xlabel("examples in the prompt")
    label(axes, "accuracy (%)")
    return figure


def training(trials: Trials, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Of the bases, and of the first seed's methods, where their curves were kept."""
    bases = logged([trials.own(seed) / "base" for seed in trials.seeds])
    methods = logged([trials.own(trials.seeds[0]) / "methods" / arm for arm in trials.main])
    written = []
    for name, title, runs in (
        ("pretraining.png", "Pretraining of the base, by seed; a jump is where other rows begin.", bases),
        ("training.png", f"Training of all methods, seed {trials.seeds[0]}.", methods),
    ):
        if runs:
            training_curves(runs, folder / name)
            written.append((name, title))
    return written


def logged(folders: list[pathlib.Path]) -> list[pathlib.Path]:
    """-> those whose log has a step."""
    return [folder for folder in folders if (path := folder / metrics_writer.NAME).is_file() and path.stat().st_size]
