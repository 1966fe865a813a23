"""(h) What does accuracy cost: time of a prompt, of a token after it, and memory?"""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

from longjax.report.measures import Measure, ppl, ruler
from longjax.report.plotting.scatter import Point, draw_points, label_points
from longjax.report.plotting.style import NUMBER, ticks
from longjax.report.rows import Number
from longjax.report.study.main_table import ranked, significantly_better
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import draw_figure
from longjax.report.study.text import format_value
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

FILE = "methods.json"  # of benchmarks.methods
TITLE = "What does accuracy cost?"
PROTOCOL = """Time and memory of each method, for one row on one device that does nothing else: a prompt of the extended
length, and each token after it, by the programs that the evaluators call (benchmarks/methods.py). Methods that attend
alike after training are one program and cost the same. A method is on a front (Pareto) if no other is both cheaper and
better."""
COMMAND = "python -m benchmarks.methods"
COSTS = (Column("prefill ms", 1.0, 1), Column("ms a token", 1.0, 2), Column("GiB", 1.0, 2))


class Costs(NamedTuple):
    """Costs at one length.

    Attributes:
      by_method: in the order of COSTS.
      program: by method, the program that it shares with others.

    """

    by_method: dict[str, tuple[float, float, float]]
    program: dict[str, str]
    machine: str
    file: str


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare scores at the extended length with time and memory."""
    costs = read_costs(trials, folder)
    if costs is None:
        return Section(TITLE, PROTOCOL, command=COMMAND, missing=(f"{COMMAND} was not run: there is no {FILE}",))
    measures, end = [ruler(trials.extended), ppl(trials.extended)], trials.extended
    arms = [arm for arm in trials.main if arm in costs.by_method]
    missing = tuple(f"{arm} was not measured at {end}" for arm in trials.main if arm not in costs.by_method)
    known = [m for m in measures if len(_scores_by_cost(trials, costs, arms, m, 0)) > 1]
    missing += tuple(f"{m.name} was not run" for m in measures if m not in known)
    if not known:
        return Section(TITLE, PROTOCOL, command=COMMAND, missing=missing)
    title = f"Accuracy at {end} against cost; the line: no method is both cheaper and better."
    figure = draw_figure(folder, "h_cost.png", title, lambda: _figure(trials, costs, arms, known))
    finding = price_finding(trials, costs, arms, known[0])
    tables = (_cost_table(trials, costs, arms, known),)
    return Section(TITLE, PROTOCOL, tables, (figure,), finding, command=COMMAND, missing=missing)


def read_costs(trials: Trials, folder: pathlib.Path) -> Costs | None:
    """Read the costs at the extended length from the run's folder, or from `benchmarks` beside the report's.

    None: nothing was measured. Raises ValueError if the file is damaged.
    """
    folders = (trials.folder, *(above / "benchmarks" for above in folder.absolute().parents[:2]))
    path = next((folder / FILE for folder in folders if (folder / FILE).exists()), None)
    if path is None:
        return None
    try:
        results = json.loads(path.read_text("utf-8"))
        rows = [r for r in results["rows"] if r["length"] == trials.extended and "error" not in r]
        costs = {r["method"]: (r["prefill_ms"], r["decode_ms"], max(r["prefill_gib"], r["decode_gib"])) for r in rows}
        program = {r["method"]: r["measured_as"] for r in rows}
        return Costs(costs, program, results["machine"]["machine"], path.name)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what benchmarks.methods writes: run {COMMAND} again") from error


CostPoint = tuple[str, float, float]  # arm, cost, score


def _scores_by_cost(trials: Trials, costs: Costs, arms: Sequence[str], measure: Measure, which: int) -> list[CostPoint]:
    points = [(arm, costs.by_method[arm][which], trials.value(measure, arm)) for arm in arms]
    return [p for p in points if math.isfinite(p[2])]


def pareto_front(points: Sequence[CostPoint], measure: Measure) -> list[CostPoint]:
    """Return the points that no other beats in cost and score, the cheapest first."""
    sign = 1 if measure.is_ppl else -1

    def beats(p: CostPoint, q: CostPoint) -> bool:
        no_worse = p[1] <= q[1] and sign * p[2] <= sign * q[2]
        return no_worse and (p[1] < q[1] or sign * p[2] < sign * q[2])

    return sorted((q for q in points if not any(beats(p, q) for p in points)), key=lambda p: p[1])


def _cost_table(trials: Trials, costs: Costs, arms: Sequence[str], measures: Sequence[Measure]) -> Table:
    fronts: dict[str, int] = dict.fromkeys(arms, 0)
    for m in measures:
        for i in range(len(COSTS)):
            for arm, *_ in pareto_front(_scores_by_cost(trials, costs, arms, m, i), m):
                fronts[arm] += 1
    lines = []
    for arm in arms:
        numbers = [*(trials.number(m, arm) for m in measures), *map(Number, costs.by_method[arm])]
        lines.append((trials.subject(arm), (*numbers, Number(float(fronts[arm])))))
    columns = (*(m.column for m in measures), *COSTS, Column(f"on fronts of {len(measures) * len(COSTS)}", 1.0, 0))
    note = f"Costs: {costs.file}, at {trials.extended} tokens, on {costs.machine}; weights are part of GiB."
    return Table("h_cost", "Accuracy and cost", columns, tuple(lines), (note,))


def price_finding(trials: Trials, costs: Costs, arms: Sequence[str], measure: Measure) -> str:
    """Return the answer: the cost of the best, and the best at the cost of full attention; "": no such method."""
    order = ranked(trials, measure, arms)
    full = [a for a in order if "base" in costs.by_method and costs.program[a] == costs.program["base"]]
    if not full:
        return ""
    value = {arm: format_value(measure, trials.value(measure, arm)) for arm in order}
    best, best_full = order[0], full[0]
    if best == best_full:
        return f"The best by {measure.name}, {best} ({value[best]}), costs what full attention does."
    times = [own / base for own, base in zip(costs.by_method[best], costs.by_method["base"], strict=True)]
    behind = "significantly" if significantly_better(trials, measure, best, best_full) else "not significantly"
    return (
        f"The best by {measure.name}, {best} ({value[best]}), costs {times[0]:.2f} times full attention's time for the "
        f"prompt, {times[1]:.2f} a token's and {times[2]:.2f} the memory; the best at full attention's cost is "
        f"{best_full} ({value[best_full]}), {behind} behind."
    )


def _figure(trials: Trials, costs: Costs, arms: Sequence[str], measures: Sequence[Measure]) -> Any:
    count = len(measures)
    figure, axes = plt.subplots(count, 3, figsize=(12.5, 3.7 * count), squeeze=False, layout="constrained")
    for row, m in zip(axes, measures, strict=True):
        for i, (ax, column) in enumerate(zip(row, COSTS, strict=True)):
            points = _scores_by_cost(trials, costs, arms, m, i)
            _panel(ax, trials, points, m)
            y_label = m.name + ("" if m.is_ppl else " (%)")
            ax.set(xlabel=f"{column.head} at {trials.extended}", ylabel=y_label if i == 0 else "")
            _label_programs(ax, trials, costs, points, m)
    handles = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def _panel(ax: Any, trials: Trials, points: Sequence[CostPoint], measure: Measure) -> None:
    scale, front = measure.column.scale, pareto_front(points, measure)
    draw_points(ax, [Point(arm, trials.kind(arm), x, scale * v) for arm, x, v in points], size=30)
    ax.step(
        [p[1] for p in front], [scale * p[2] for p in front], where="post", color="#999999", linewidth=1.0, zorder=1
    )
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    room = max((high / low) ** 0.12, 1.03)
    ax.set(xscale="log", xlim=(low / room, high * room))
    ax.xaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)
    if measure.is_ppl:
        least = min(p[2] for p in points)
        ax.set(yscale="log", ylim=(0.85 * least, 1.05 * min(max(p[2] for p in points), 3 * least)))
        ax.yaxis.set(major_locator=ticks(*ax.get_ylim()), minor_locator=NullLocator(), major_formatter=NUMBER)
    else:
        ax.set_ylim(-4, 104)


def _label_programs(ax: Any, trials: Trials, costs: Costs, points: Sequence[CostPoint], measure: Measure) -> None:
    """Of each program the best is named, as the others stand at the same cost."""
    sign, scale = (1 if measure.is_ppl else -1), measure.column.scale
    groups: dict[str, list[CostPoint]] = {}
    for p in points:
        groups.setdefault(costs.program[p[0]], []).append(p)
    best = [min(group, key=lambda p: sign * p[2]) for group in groups.values()]
    top = ax.get_ylim()[1]
    label_points(ax, [Point(arm, trials.kind(arm), x, scale * v) for arm, x, v in best if scale * v <= top])
