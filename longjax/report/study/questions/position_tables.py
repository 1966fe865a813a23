"""(a) Does training with position tables that DeepSpeed rounded to bfloat16 change the ranking?"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from longjax.methods.ds_bf16 import bf16
from longjax.report.plotting.labels import name_ends
from longjax.report.plotting.panels import Marks
from longjax.report.plotting.style import COLOURS, NUMBER
from longjax.report.published import PUBLISHED
from longjax.report.study import recovery
from longjax.report.study.measures import Measure, needle, passkey, ppl, ruler
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import COMMAND, Pair, absent, differences, draw, unasked, verdict
from longjax.report.study.questions.rankings import RIVALS, ROUNDED, contestants, ranking, relations
from longjax.report.study.text import listed, text
from longjax.report.study.trials import Trials

ARMS = ("pi", "yarn", "longlora", "ntk_32k")
TITLE = "Do position tables that were rounded to bfloat16 in training change the ranking?"
PROTOCOL = """The released training of the study runs under DeepSpeed, which rounds the positions and the tables of
cosine and sine to bfloat16 when the model is made; dynamic NTK makes its frequencies anew in the forward pass and keeps
its positions. Here each method is trained twice on the same rows, with float32 tables and with the rounded ones
(*_ds_bf16), and both are evaluated with float32 tables, as the study's evaluations were. NTK-64K and CLEX stand in both
rankings as they are."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    wanted = [arm + ROUNDED for arm in ARMS]
    missing = absent(trials, [*ARMS, *wanted, *RIVALS])
    arms = with_both(trials)
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
            answer(trials, measures[1:2] + measures[3:], ranked),
            published(trials, arms),
            positions(trials),
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


def answer(trials: Trials, measures: Sequence[Measure], ranked: Sequence[Measure]) -> str:
    """-> whom the tables harm, and whose relations they change; "": nobody was trained with them."""
    arms = with_both(trials)
    return f"{harm(trials, arms, measures)} {relations(trials, arms, ranked)}" if arms else ""


def with_both(trials: Trials) -> list[str]:
    """-> methods that were trained with both tables."""
    return [arm for arm in ARMS if {arm, arm + ROUNDED} <= set(trials.arms)]


def harm(trials: Trials, arms: Sequence[str], measures: Sequence[Measure]) -> str:
    """-> the answer: whom the rounded tables surely harm, by how much; whom they do not change; who cannot be told."""
    judged = recovery.recovered(trials, arms)
    worse: dict[str, list[str]] = {}
    for arm in judged:
        found = ((m, Pair(arm + ROUNDED, arm).versus(trials, m)) for m in measures)
        said = [lost(trials, arm, m) for m, x in found if x is not None and verdict(x, m) == "worse"]
        worse |= {arm: said} if said else {}
    parts = [f"{arm} is surely worse by {listed(said)}" for arm, said in worse.items()]
    calm = [arm for arm in judged if arm not in worse]
    parts += [f"{listed(calm)} {'is' if len(calm) == 1 else 'are'} worse in nothing"] if calm else []
    left = [arm for arm in arms if arm not in judged]
    parts += [f"{listed(left)} cannot be judged, as the float32 arms have not recovered either"] if left else []
    return f"Trained with rounded tables, {'; '.join(parts)}."


def lost(trials: Trials, arm: str, m: Measure) -> str:
    """-> "16.6 points of RULER 16384 (48.8 to 32.1)"."""
    before, after = (trials.value(m, name) for name in (arm, arm + ROUNDED))
    what = f"{m.column.scale * abs(after - before):.{m.column.decimals}f}"
    return f"{what} {'in' if m.is_ppl else 'points of'} {m.name} ({text(m, before)} to {text(m, after)})"


def published(trials: Trials, arms: Sequence[str]) -> str:
    """-> Table 1's RULER of the same methods, which were trained with the rounded tables."""
    both = [
        x for x in PUBLISHED if x.table == 1 and x.column == "RULER" and x.method in contestants(trials, arms, True)
    ]
    order = sorted(both, key=lambda x: -x.value)
    return (
        "The paper's Table 1 has, by RULER at 32768 and from the pipeline that rounds: "
        + listed(f"{x.method} {x.value:g}" for x in order)
        + "."
        + " PI met the same rounding there and did well; of it nothing can be told here."
        * ("pi" in recovery.unrecovered(trials))
    )


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
