"""The main figures of a study of several seeds: means over seeds, with half their range as error bars."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from longjax.report import measures
from longjax.report.aggregates import RULER_TASKS
from longjax.report.evaluation import figures
from longjax.report.evaluation.benchmark_tables import rows_of_suite
from longjax.report.evaluation.figures import Figure
from longjax.report.measures import Measure
from longjax.report.plotting import curves
from longjax.report.plotting.matrix import Matrix, draw_matrix
from longjax.report.plotting.panels import Curve, Marks
from longjax.report.plotting.style import draw
from longjax.report.plotting.training_curves import training_curves, with_metrics
from longjax.report.rows import Evaluations
from longjax.report.study.seed_means import mean_evaluations
from longjax.report.study.trials import Trials

WINDOWS = ("lm_infinite", "streaming_llm", "sliding_window")  # far keys are not seen at all


def write_study_figures(trials: Trials, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Write the figures that the trials allow. Returns (file name, title) in the order of the page."""
    means = mean_evaluations(trials, trials.main)
    titles = []
    for part in (
        _perplexity(trials), _positions(trials, means), _ruler(trials), _ruler_tasks(trials), _heat_maps(means),
        _manyshot(trials, means),
    ):  # fmt: skip
        for name, title, make_figure in part:
            draw(folder / name, make_figure)
            titles.append((name, title))
    return titles + _training(trials, folder)


def _family(trials: Trials, arm: str) -> str:
    """-> the category; the largest is two panels."""
    kind = trials.kind(arm)
    return kind if kind != "approximate frozen" else "frozen windows" if arm in WINDOWS else "frozen, positions mapped"


def _by_family(trials: Trials, means: Evaluations) -> Evaluations:
    rows = {dataclasses.replace(who, kind=_family(trials, who.method)): rows for who, rows in means.rows.items()}
    return dataclasses.replace(means, rows=rows)


def lengths_run(trials: Trials, benchmark: str, **fields: str) -> list[int]:
    """Return the lengths at which any main arm has rows of this benchmark with these fields."""
    rows = [r for arm in trials.main for seed in trials.seeds for r in trials.rows_of(arm, seed)]
    rows = [r for r in rows if r["benchmark"] == benchmark]
    return sorted({r["length"] for r in rows if all(r.get(name) == value for name, value in fields.items())})


def curves_over(trials: Trials, columns: Sequence[Measure], scale: float = 1.0) -> list[Curve]:
    """Return a curve a main arm, a point a measure, with half the range of the seeds as its error."""
    shown = []
    for arm in trials.main:
        numbers = [(float(m.length or 0), x) for m in columns if (x := trials.number(m, arm)) is not None]
        points = [(n, scale * x.value, scale * (x.half_range or 0.0)) for n, x in numbers if x.value is not None]
        if points:
            x, y, error = ([point[i] for point in points] for i in range(3))
            shown.append(Curve(arm, _family(trials, arm), x, y, error))
    return shown


def marks(trials: Trials) -> Marks:
    """Return the marks at the trained and the extended length."""
    return Marks(trials.trained, trials.extended)


def _perplexity(trials: Trials) -> Iterator[Figure]:
    lengths = lengths_run(trials, "perplexity", protocol="nested")
    if shown := curves_over(trials, [measures.ppl(n) for n in lengths]):
        title = "Perplexity by length. Bars: both seeds."
        yield "perplexity.png", title, lambda: curves.perplexity_by_length(shown, marks(trials))


def _ruler(trials: Trials) -> Iterator[Figure]:
    lengths = lengths_run(trials, "ruler")
    if shown := curves_over(trials, [measures.ruler(n) for n in lengths], 100.0):
        title = "RULER by length, mean of its tasks. Bars: both seeds."
        yield "ruler.png", title, lambda: curves.score_by_length(shown, marks(trials))


def _positions(trials: Trials, means: Evaluations) -> Iterator[Figure]:
    nested = {who: [r for r in rows if r.get("protocol") == "nested"] for who, rows in means.rows.items()}
    for _, _, make_figure in figures.position_figures(_by_family(trials, dataclasses.replace(means, rows=nested))):
        length = max(lengths_run(trials, "perplexity", protocol="nested", task="position_nll"))
        title = (
            f"Loss by position in windows of {length} tokens, mean of the seeds. Peaks that all share are the text's."
        )
        yield "positions.png", title, make_figure


def _ruler_tasks(trials: Trials) -> Iterator[Figure]:
    """At the length of the training, and at the base's."""
    for length in (trials.extended, trials.trained):
        cells = np.array([[trials.value(measures.ruler(length, t), arm) for t in RULER_TASKS] for arm in trials.main])
        if not cells.size or np.isnan(cells).all():
            continue
        known = [i for i in range(len(cells)) if np.isfinite(cells[i]).any()]
        arms = [trials.main[i] for i in known]
        matrix = Matrix(cells[known], arms, [trials.kind(arm) for arm in arms], RULER_TASKS, "score")
        title = f"RULER at {length} by task, %, mean of the seeds."
        yield f"ruler_{length}.png", title, lambda matrix=matrix: draw_matrix(matrix)


def _heat_maps(means: Evaluations) -> Iterator[Figure]:
    """Needles and pass keys by depth and length."""
    for benchmark, name, label in (
        ("needle", "Needle in a haystack", "share of facts found"), ("passkey", "Pass keys", "share of keys retrieved"),
    ):  # fmt: skip
        for suite in means.suites(benchmark):
            lines = rows_of_suite(means, suite, lambda r: (r["length"], r["depth"]))
            if lines and all(key[1] is not None for line in lines.values() for key in line):
                variant = ", ".join(str(value) for field, value in suite.variant if field != "haystack" and value)
                title = f"{name} by depth and length ({variant}), mean of the seeds. Lines: trained, extended."
                file = f"{benchmark}_{variant.replace(', ', '_')}.png"
                yield file, title, lambda lines=lines, label=label: figures.by_depth(means, lines, label)


def _manyshot(trials: Trials, means: Evaluations) -> Iterator[Figure]:
    for _, _, make_figure in figures.manyshot_figures(_by_family(trials, means)):
        title = "Many-shot TREC by number of examples, mean of the seeds. Bars: standard errors of the questions."
        yield "manyshot.png", title, make_figure


def _training(trials: Trials, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Of the bases, and of the first seed's methods, where their logs were kept."""
    bases = with_metrics(trials.seed_folder(seed) / "base" for seed in trials.seeds)
    methods = with_metrics(trials.seed_folder(trials.seeds[0]) / "methods" / arm for arm in trials.main)
    titles = []
    for name, title, runs in (
        ("pretraining.png", "Pretraining of the base, by seed; a jump is where other rows begin.", bases),
        ("training.png", f"Training of all methods, seed {trials.seeds[0]}.", methods),
    ):
        if runs:
            training_curves(runs, folder / name)
            titles.append((name, title))
    return titles
