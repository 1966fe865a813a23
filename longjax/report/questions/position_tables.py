"""(a) Does training with position tables that DeepSpeed rounded to bfloat16 change the ranking?"""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.methods.ds_bf16 import bf16
from longjax.report.measures import Measure, needle, passkey, ppl, ruler
from longjax.report.names import name_ends
from longjax.report.panels import Marks
from longjax.report.questions.comparing import (
    COMMAND,
    Pair,
    absent,
    differences,
    draw,
    listed,
    order,
    unasked,
    verdicts,
)
from longjax.report.questions.section import Section
from longjax.report.rows import Number
from longjax.report.style import COLOURS, NUMBER
from longjax.report.tables import Column, Table
from longjax.report.trials import Trials

ROUNDED = "_ds_bf16"
ARMS = ("pi", "yarn", "longlora", "ntk_32k")
RIVALS = ("ntk_64k", "clex")  # as they are in both rankings
TITLE = "Do position tables that were rounded to bfloat16 in training change the ranking?"
PROTOCOL = """The released training of the study runs under DeepSpeed, which rounds the positions and the tables of
cosine and sine to bfloat16 when the model is made; dynamic NTK makes its frequencies anew in the forward pass and keeps
its positions. Here each method is trained twice on the same rows, with float32 tables and with the rounded ones
(*_ds_bf16), and both are evaluated with float32 tables, as the study's evaluations were. NTK-64K and CLEX stand in both
rankings as they are."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    wanted = [arm + ROUNDED for arm in ARMS]
    missing = absent(trials, [*ARMS, *wanted, *RIVALS])
    arms = [arm for arm in ARMS if {arm, arm + ROUNDED} <= set(trials.arms)]
    if not arms:
        return Section(TITLE, PROTOCOL, missing=missing)
    end = trials.extended
    measures = [*map(ppl, (trials.trained, end, trials.longest)), ruler(end), passkey(end), needle(end, "number")]
    pairs = [(arm, Pair(arm + ROUNDED, arm)) for arm in arms]
    change = differences(
        trials, "a_position_tables", "Trained with rounded tables, minus trained with float32", pairs, measures
    )
    ranked = [ppl(end), ruler(end), passkey(end)]
    return Section(
        TITLE,
        PROTOCOL,
        (change, ranking(trials, arms, ranked)),
        (
            draw(
                folder,
                "a_position_tables.png",
                "What rounded tables add to perplexity, by length. Bars: both seeds.",
                lambda: picture(trials, arms),
            ),
        ),
        (
            answer(trials, arms, ranked),
            positions(trials),
            *verdicts(trials, pairs, measures[1:5]),
            *(changes(trials, arms, m) for m in ranked),
        ),
        COMMAND,
        missing + unasked(trials, arms, measures),
    )


def distinct(length: int) -> int:
    """-> how many of so many positions bfloat16 tells apart."""
    return len(np.unique(np.asarray(bf16(jnp.arange(length, dtype=jnp.float32)))))


def positions(trials: Trials) -> str:
    short, long = trials.trained, trials.extended
    return (
        f"In bfloat16, {distinct(long)} of {long} positions stay distinct, and {distinct(short)} of {short}: at the "
        f"end, {neighbours(long)} neighbours stand at one place. With PI, YaRN and LongLoRA training sees these; with "
        "dynamic NTK it sees all positions, and only the table's entries are rounded."
    )


def neighbours(length: int) -> int:
    """-> how many tokens share a place at the end: bfloat16 has 8 significant bits."""
    return max(1, 2 ** (int(np.log2(length - 1)) - 7))


def contestants(trials: Trials, arms: Sequence[str], rounded: bool) -> dict[str, str]:
    """-> method: the arm that stands for it."""
    rivals = [arm for arm in RIVALS if arm in trials.arms]
    return {arm: arm + ROUNDED * rounded for arm in arms} | {arm: arm for arm in rivals}


def ranking(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> Table:
    columns, lines = [], []
    both = [contestants(trials, arms, rounded) for rounded in (False, True)]
    for m in measures:
        for tables in ("float32", "bf16"):
            head = m.column
            columns += [Column(f"{m.name} {tables}", head.scale, head.decimals), Column(f"place {tables}", 1.0, 0)]
    for method in both[0]:
        cells: list[Number | None] = []
        for m in measures:
            for who in both:
                ordered = order(trials, list(who.values()), m)
                arm = who[method]
                cells += [trials.number(m, arm), Number(ordered.index(arm) + 1.0) if arm in ordered else None]
        lines.append((trials.subject(method), tuple(cells)))
    note = "The best is at place 1. bf16: the methods of the table above trained with rounded tables, the others as is."
    return Table("a_ranking", "Both rankings side by side", tuple(columns), tuple(lines), (note,))


class Swaps(NamedTuple):
    """Pairs of methods whose order the tables change, those that are sure of both orders, and how many there are."""

    pairs: list[str]
    sure: list[str]
    of: int


def swaps(trials: Trials, arms: Sequence[str], measure: Measure) -> Swaps:
    before, after = (contestants(trials, arms, rounded) for rounded in (False, True))
    first, then = (order(trials, list(who.values()), measure) for who in (before, after))
    known = [m for m in before if before[m] in first and after[m] in then]
    every = list(itertools.combinations(known, 2))
    swapped = [(a, b) for a, b in every if ahead(first, before[a], before[b]) != ahead(then, after[a], after[b])]
    sure = [(a, b) for a, b in swapped if both_sure(trials, measure, (before[a], before[b]), (after[a], after[b]))]
    return Swaps([f"{a}/{b}" for a, b in swapped], [f"{a}/{b}" for a, b in sure], len(every))


def answer(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> str:
    found = {m.name: swaps(trials, arms, m) for m in measures}
    sure = [f"{listed(x.sure)} by {name}" for name, x in found.items() if x.sure]
    if sure:
        return f"The ranking changes: {'; '.join(sure)} stand in one order with float32 and in the other with bfloat16."
    known = [name for name, x in found.items() if x.of]
    return (
        f"No pair of methods surely changes its order, by {listed(known)}: what the rounded tables do is less than "
        "what separates the methods, or less than this study can see."
    )


def changes(trials: Trials, arms: Sequence[str], measure: Measure) -> str:
    """-> which pairs of methods change their order, and which of these are sure of both orders."""
    found = swaps(trials, arms, measure)
    if not found.of:
        return f"{measure.name}: too few methods have a number for a ranking."
    if not found.pairs:
        return f"{measure.name}: the order is the same with both tables ({found.of} pairs)."
    said = f"{measure.name}: {len(found.pairs)} of {found.of} pairs change their order ({listed(found.pairs)}); "
    return said + (f"surely in both orders: {listed(found.sure)}." if found.sure else "none is sure of both orders.")


def ahead(order: Sequence[str], a: str, b: str) -> bool:
    return order.index(a) < order.index(b)


def both_sure(trials: Trials, measure: Measure, before: tuple[str, str], after: tuple[str, str]) -> bool:
    found = [trials.versus(measure, *pair) for pair in (before, after)]
    return all(x is not None and x.sure for x in found)


def picture(trials: Trials, arms: Sequence[str]) -> Any:
    """Perplexity with rounded tables over that with float32, by length; bars: both seeds."""
    figure, ax = plt.subplots(figsize=(6.4, 3.6))
    lengths, ends = asked(trials, arms), []
    for arm, colour in zip(arms, COLOURS, strict=False):
        by_length = {n: more(trials, arm, n) for n in lengths}
        known = {n: parts for n, parts in by_length.items() if parts}
        y = [float(np.mean(parts)) for parts in known.values()]
        half = [float(np.ptp(parts)) / 2 for parts in known.values()]
        ax.errorbar(list(known), y, half, color=colour, marker="o", markersize=3, capsize=2, elinewidth=0.8)
        ends += [(arm, colour, float(list(known)[-1]), y[-1])] if known else []
    ax.axhline(0, color="#555555", linewidth=0.8)
    ax.set(xscale="log", xlabel="context length (tokens)", ylabel="perplexity with rounded tables (% more)")
    ax.xaxis.set(major_locator=FixedLocator(lengths), minor_locator=NullLocator(), major_formatter=NUMBER)
    ax.tick_params(axis="x", labelrotation=60)
    Marks(trials.trained, trials.extended).draw(ax)
    name_ends(ax, ends)
    return figure


def asked(trials: Trials, arms: Sequence[str]) -> list[int]:
    """-> lengths at which any of them has a perplexity."""
    rows = [r for arm in arms for seed in trials.seeds for r in trials.of(arm, seed) if r["task"] == "perplexity"]
    return sorted({r["length"] for r in rows if r["protocol"] == "nested"})


def more(trials: Trials, arm: str, length: int) -> list[float]:
    """-> per cent, of every seed that has both."""
    found = []
    for seed in trials.seeds:
        plain, rounded = (trials.of_seed(ppl(length), name, seed) for name in (arm, arm + ROUNDED))
        if plain and rounded and plain.value and rounded.value:
            found.append(100 * (rounded.value / plain.value - 1))
    return found
