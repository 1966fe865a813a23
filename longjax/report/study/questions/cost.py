"""(h) What does accuracy cost: time of a prompt, of a token after it, and memory?"""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

from longjax.report.plotting.labels import name_points
from longjax.report.plotting.style import KIND_COLOUR, KIND_MARKER, NUMBER, ticks
from longjax.report.rows import Number
from longjax.report.study.main_table import ranked, significantly_better
from longjax.report.study.measures import Measure, ppl, ruler
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import draw
from longjax.report.study.text import listed, text
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

FILE = "methods.json"  # of benchmarks.methods
TITLE = "What does accuracy cost?"
PROTOCOL = """Time and memory of each method, for one row on one device that does nothing else: a prompt of the extended
length, and each token after it, by the programs that the evaluators call (benchmarks/methods.py). Methods that attend
alike after training are one program and cost the same. Nobody on a front (Pareto) is beaten by a method that is both
cheaper and better."""
COMMAND = "python -m benchmarks.methods"
PREFILL = Column("prefill ms", 1.0, 1)
DECODE = Column("ms a token", 1.0, 2)
MEMORY = Column("GiB", 1.0, 2)
COSTS = (PREFILL, DECODE, MEMORY)
SLOW = 5.0  # times the prompt of full attention
WHY = {
    "landmark": " Every query token and head opens blocks of its own, which are copied together for few queries at a "
    "time, so that its time grows with the length alone, but no matrix product is large: a property of this program, "
    "which has no fused kernel, more than of the method."
}


class Costs(NamedTuple):
    """Of each method at one length, in the order of COSTS, and the program that it shares with others."""

    of: dict[str, tuple[float, float, float]]
    program: dict[str, str]
    machine: str
    path: str


def section(trials: Trials, folder: pathlib.Path) -> Section:
    costs = read(trials, folder)
    if costs is None:
        return Section(TITLE, PROTOCOL, command=COMMAND, missing=(f"{COMMAND} was not run: there is no {FILE}",))
    measures = [ruler(trials.extended), ppl(trials.extended)]
    arms = [arm for arm in trials.main if arm in costs.of]
    missing = tuple(f"{arm} was not measured at {trials.extended}" for arm in trials.main if arm not in costs.of)
    known = [m for m in measures if len(points(trials, costs, arms, m, 0)) > 1]
    missing += tuple(f"{m.name} was not asked" for m in measures if m not in known)
    if not known:
        return Section(TITLE, PROTOCOL, command=COMMAND, missing=missing)
    title = f"Accuracy at {trials.extended} against cost; the line: nobody is both cheaper and better."
    figure = draw(folder, "h_cost.png", title, lambda: picture(trials, costs, arms, known))
    return Section(
        TITLE, PROTOCOL, (table(trials, costs, arms, known),), (figure,),
        (*price(trials, costs, arms, known[0]), *shares(costs, arms), fronts(trials, costs, arms, known)), COMMAND,
        missing,
    )  # fmt: skip


def read(trials: Trials, folder: pathlib.Path) -> Costs | None:
    """-> what lies in the run's folder, or in `benchmarks` beside the report's; None: nothing was measured.

    Raises ValueError if the file is torn.
    """
    places = (trials.folder, *(above / "benchmarks" for above in folder.absolute().parents[:2]))
    path = next((place / FILE for place in places if (place / FILE).exists()), None)
    if path is None:
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        rows = [r for r in found["rows"] if r["length"] == trials.extended and "error" not in r]
        of = {r["method"]: (r["prefill_ms"], r["decode_ms"], max(r["prefill_gib"], r["decode_gib"])) for r in rows}
        return Costs(of, {r["method"]: r["measured_as"] for r in rows}, found["machine"]["machine"], path.name)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what benchmarks.methods writes: run {COMMAND} again") from error


Point = tuple[str, float, float]  # arm, cost, score


def points(trials: Trials, costs: Costs, arms: Sequence[str], measure: Measure, which: int) -> list[Point]:
    found = [(arm, costs.of[arm][which], trials.value(measure, arm)) for arm in arms]
    return [p for p in found if math.isfinite(p[2])]


def front(found: Sequence[Point], measure: Measure) -> list[Point]:
    """-> those that nobody beats: no dearer and better, or cheaper and no worse. The cheapest first."""
    sign = 1 if measure.is_ppl else -1

    def beats(p: Point, q: Point) -> bool:
        no_worse = p[1] <= q[1] and sign * p[2] <= sign * q[2]
        return no_worse and (p[1] < q[1] or sign * p[2] < sign * q[2])

    return sorted((q for q in found if not any(beats(p, q) for p in found)), key=lambda p: p[1])


def table(trials: Trials, costs: Costs, arms: Sequence[str], measures: Sequence[Measure]) -> Table:
    on: dict[str, int] = dict.fromkeys(arms, 0)
    for m in measures:
        for i in range(len(COSTS)):
            for arm, *_ in front(points(trials, costs, arms, m, i), m):
                on[arm] += 1
    lines = []
    for arm in arms:
        cost = [Number(x) for x in costs.of[arm]]
        scores = [trials.number(m, arm) for m in measures]
        lines.append((trials.subject(arm), (*scores, *cost, Number(float(on[arm])))))
    count = len(measures) * len(COSTS)
    columns = (*(m.column for m in measures), *COSTS, Column(f"on fronts of {count}", 1.0, 0))
    note = f"Costs: {costs.path}, at {trials.extended} tokens, on {costs.machine}; weights are part of GiB."
    return Table("h_cost", "Accuracy and cost", columns, tuple(lines), (note,))


def multiples(costs: Costs, arm: str) -> str:
    """-> of full attention."""
    x = [mine / full for mine, full in zip(costs.of[arm], costs.of["base"], strict=True)]
    return f"{x[0]:.2f} times full attention's time for the prompt, {x[1]:.2f} a token's and {x[2]:.2f} the memory"


def price(trials: Trials, costs: Costs, arms: Sequence[str], measure: Measure) -> list[str]:
    """-> the answer: what the best costs, and who is the best at the cost of full attention."""
    order = ranked(trials, measure, arms)
    full = [arm for arm in order if "base" in costs.of and costs.program[arm] == costs.program["base"]]
    if not full:
        return []
    value = {arm: text(measure, trials.value(measure, arm)) for arm in order}
    if order[0] == full[0]:
        return [f"The best by {measure.name}, {full[0]} ({value[full[0]]}), costs what full attention does."]
    behind = "surely behind" if significantly_better(trials, measure, order[0], full[0]) else "not surely behind"
    return [
        f"The best by {measure.name}, {order[0]} ({value[order[0]]}), costs {multiples(costs, order[0])}. At the cost "
        f"of full attention the best is {full[0]} ({value[full[0]]}), {behind}."
    ]


def shares(costs: Costs, arms: Sequence[str]) -> list[str]:
    """-> the cost of full attention, who shares it, and who is far slower."""
    if "base" not in costs.of:
        return []
    full = costs.of["base"]
    alike = [arm for arm in arms if costs.program[arm] == costs.program["base"] and arm != "base"]
    said = (
        f"Full attention takes {full[0]:.1f} ms for the prompt, {full[1]:.2f} ms a token and {full[2]:.2f} GiB; so do "
        f"{listed(alike)}, whose attention is the same after training."
    )
    slow = [arm for arm in arms if costs.of[arm][0] > SLOW * full[0]]
    return [" ".join([said, *(f"Far slower is {arm}: {multiples(costs, arm)}.{WHY.get(arm, '')}" for arm in slow)])]


def fronts(trials: Trials, costs: Costs, arms: Sequence[str], measures: Sequence[Measure]) -> str:
    """-> who is on the front of each pair of score and cost."""
    lines = []
    for m in measures:
        names = ([arm for arm, *_ in front(points(trials, costs, arms, m, i), m)] for i in range(len(COSTS)))
        parts = (f"by {c.head} {listed(found)}" for c, found in zip(COSTS, names, strict=True))
        lines.append(f"Fronts of {m.name}: {'; '.join(parts)}.")
    return " ".join(lines)


def picture(trials: Trials, costs: Costs, arms: Sequence[str], measures: Sequence[Measure]) -> Any:
    count = len(measures)
    figure, axes = plt.subplots(count, 3, figsize=(12.5, 3.7 * count), squeeze=False, layout="constrained")
    for row, m in zip(axes, measures, strict=True):
        for i, (ax, c) in enumerate(zip(row, COSTS, strict=True)):
            found = points(trials, costs, arms, m, i)
            panel(ax, trials, found, front(found, m), m)
            ax.set(
                xlabel=f"{c.head} at {trials.extended}", ylabel=m.name + ("" if m.is_ppl else " (%)") if i == 0 else ""
            )
            names(ax, trials, costs, found, m)
    handles = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def panel(ax: Any, trials: Trials, found: Sequence[Point], best: Sequence[Point], measure: Measure) -> None:
    scale = measure.column.scale
    for kind in dict.fromkeys(trials.kind(arm) for arm, *_ in found):
        x, y = zip(*((x, scale * v) for arm, x, v in found if trials.kind(arm) == kind), strict=True)
        marker, colour = KIND_MARKER.get(kind, "p"), KIND_COLOUR.get(kind, "black")
        ax.scatter(x, y, s=30, zorder=3, marker=marker, color=colour, edgecolors="white", linewidths=0.6, label=kind)
    ax.step([p[1] for p in best], [scale * p[2] for p in best], where="post", color="#999999", linewidth=1.0, zorder=1)
    low, high = min(p[1] for p in found), max(p[1] for p in found)
    room = max((high / low) ** 0.12, 1.03)
    ax.set(xscale="log", xlim=(low / room, high * room))
    ax.xaxis.set(major_locator=ticks(low, high), minor_locator=NullLocator(), major_formatter=NUMBER)
    if measure.is_ppl:
        least = min(p[2] for p in found)
        ax.set(yscale="log", ylim=(0.85 * least, 1.05 * min(max(p[2] for p in found), 3 * least)))
        ax.yaxis.set(major_locator=ticks(*ax.get_ylim()), minor_locator=NullLocator(), major_formatter=NUMBER)
    else:
        ax.set_ylim(-4, 104)


def names(ax: Any, trials: Trials, costs: Costs, found: Sequence[Point], measure: Measure) -> None:
    """Of each program the best, as the others stand at the same cost."""
    sign, scale = (1 if measure.is_ppl else -1), measure.column.scale
    groups: dict[str, list[Point]] = {}
    for p in found:
        groups.setdefault(costs.program[p[0]], []).append(p)
    best = [min(group, key=lambda p: sign * p[2]) for group in groups.values()]
    top = ax.get_ylim()[1]
    named = [(arm, KIND_COLOUR.get(trials.kind(arm), "black"), x, scale * v) for arm, x, v in best if scale * v <= top]
    name_points(ax, named)
