"""(a) Does training with position tables that DeepSpeed rounded to bfloat16 change the ranking?"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.methods.ds_bf16 import bf16
from longjax.report.measures import Measure, needle, passkey, ppl, ruler
from longjax.report.plotting.labels import name_ends
from longjax.report.plotting.panels import Marks
from longjax.report.plotting.style import COLORS, NUMBER
from longjax.report.study import recovery
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import (
    COMMAND,
    Pair,
    difference_table,
    draw_figure,
    missing_arms,
    missing_measures,
    signed,
    verdict,
)  # fmt: skip
from longjax.report.study.questions.rankings import RIVALS, ROUNDED, lead_changes, ranking_table
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials

ARMS = ("pi", "yarn", "longlora", "ntk_32k")
TITLE = "Do position tables that were rounded to bfloat16 in training change the ranking?"
PROTOCOL = """The released training of the study runs under DeepSpeed, which rounds the positions and the tables of
cosine and sine to bfloat16 when the model is made ({distinct} of {extended} positions stay distinct); dynamic NTK
recomputes its frequencies in the forward pass and keeps its positions. Here each method is trained twice on the same
rows, with float32 tables and with the rounded ones (*_ds_bf16), and both are evaluated with float32 tables, as the
study's evaluations were. NTK-64K and CLEX are the same arms in both rankings."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare arms trained with rounded tables with those trained with float32 tables."""
    protocol = PROTOCOL.format(distinct=distinct_positions(trials.extended), extended=trials.extended)
    missing = missing_arms(trials, [*ARMS, *(arm + ROUNDED for arm in ARMS), *RIVALS])
    arms = [arm for arm in ARMS if {arm, arm + ROUNDED} <= set(trials.arms)]
    if not arms:
        return Section(TITLE, protocol, missing=missing)
    end = trials.extended
    measures = [*map(ppl, (trials.trained, end, trials.longest)), ruler(end), passkey(end), needle(end, "number")]
    pairs = [(arm, Pair(arm + ROUNDED, arm)) for arm in arms]
    title = "Trained with rounded tables, minus trained with float32"
    change = difference_table(trials, "a_position_tables", title, pairs, measures)
    ranked = [ppl(end), ruler(end), passkey(end)]
    caption = "What rounded tables add to perplexity, by length. Bars: both seeds."
    return Section(
        TITLE,
        protocol,
        (change, ranking_table(trials, arms, ranked)),
        (draw_figure(folder, "a_position_tables.png", caption, lambda: _figure(trials, arms)),),
        f"{harm(trials, arms, measures[1:2] + measures[3:])} {lead_changes(trials, arms, ranked)}",
        command=COMMAND,
        missing=missing + missing_measures(trials, arms, measures),
    )


def distinct_positions(length: int) -> int:
    """Return how many of `length` positions bfloat16 distinguishes."""
    return len(np.unique(np.asarray(bf16(jnp.arange(length, dtype=jnp.float32)))))


def harm(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> str:
    """Return a sentence on the arms that rounded tables make significantly worse, and by how much."""
    losses: dict[str, list[str]] = {}
    for arm in recovery.recovered(trials, arms):
        differences = ((m, Pair(arm + ROUNDED, arm).versus(trials, m)) for m in measures)
        losses[arm] = [f"{m.name} {signed(x, m.column)}" for m, x in differences if x and verdict(x, m) == "worse"]
    worse = [f"{arm} ({', '.join(names)})" for arm, names in losses.items() if names]
    equal = [arm for arm, names in losses.items() if not names]
    parts = [f"significantly worse with rounded tables: {join_names(worse)}"]
    parts += [f"not worse: {join_names(equal)}"] if equal else []
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}.{recovery.left_out(trials, arms)}"


def _figure(trials: Trials, arms: Sequence[str]) -> Any:
    """Perplexity with rounded tables over that with float32, by length; bars: both seeds."""
    figure, ax = plt.subplots(figsize=(6.4, 3.6))
    lengths, ends = _lengths(trials, arms), []
    for arm, color in zip(arms, COLORS, strict=False):
        known = {n: parts for n in lengths if (parts := _percent_more(trials, arm, n))}
        y = [float(np.mean(parts)) for parts in known.values()]
        half = [float(np.ptp(parts)) / 2 for parts in known.values()]
        ax.errorbar(list(known), y, half, color=color, marker="o", markersize=3, capsize=2, elinewidth=0.8)
        ends += [(arm, color, float(list(known)[-1]), y[-1])] if known else []
    ax.axhline(0, color="#555555", linewidth=0.8)
    ax.set(xscale="log", xlabel="context length (tokens)", ylabel="perplexity with rounded tables (% more)")
    ax.xaxis.set(major_locator=FixedLocator(lengths), minor_locator=NullLocator(), major_formatter=NUMBER)
    ax.tick_params(axis="x", labelrotation=60)
    Marks(trials.trained, trials.extended).draw(ax)
    name_ends(ax, ends)
    return figure


def _lengths(trials: Trials, arms: Sequence[str]) -> list[int]:
    """-> lengths at which any of them has a perplexity."""
    rows = [r for arm in arms for seed in trials.seeds for r in trials.rows_of(arm, seed) if r["task"] == "perplexity"]
    return sorted({r["length"] for r in rows if r["protocol"] == "nested"})


def _percent_more(trials: Trials, arm: str, length: int) -> list[float]:
    """-> of every seed that has both."""
    parts = []
    for seed in trials.seeds:
        plain, rounded = (trials.number_of_seed(ppl(length), name, seed) for name in (arm, arm + ROUNDED))
        if plain and rounded and plain.value and rounded.value:
            parts.append(100 * (rounded.value / plain.value - 1))
    return parts
