"""(c) What is the average of the weights worth, and what do eight times larger updates change?"""

import pathlib
from collections.abc import Sequence

from longjax.report.study import recovery
from longjax.report.study.measures import Measure, needle, passkey, ppl
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import COMMAND, Pair, absent, clause, differences, draw, forest, unasked
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials

LARGER = "_batch32"
ARMS = ("pi", "yarn")
TITLE = "What do averaged weights (EMA) and larger batches change?"
PROTOCOL = """Every trained method is evaluated twice: with the exponential moving average of its weights, as the paper
describes and no released code has, and with the last weights as they are. Two methods are also trained with eight
times the rows an update and an eighth of the updates: the same tokens, the same learning rate."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    end = trials.extended
    measures = [ppl(trials.trained), ppl(end), ppl(trials.longest), passkey(end), needle(end, "number")]
    averaged = [arm for arm in trials.main if {"ema", "raw"} <= set(trials.weights(arm))]
    larger = [arm for arm in ARMS if {arm, arm + LARGER} <= set(trials.arms)]
    missing = absent(trials, [arm + LARGER for arm in ARMS])
    missing += () if averaged else ("no method was evaluated with both weights",)
    ema = [(arm, Pair(arm, arm, "ema", "raw")) for arm in averaged]
    batch = [(arm, Pair(arm + LARGER, arm)) for arm in larger]
    tables, figures, finding = [], [], []
    for name, title, pairs, why in (
        ("c_averaging", "Averaged weights minus the last ones", ema, "the average lags behind weights that still move"),
        ("c_batch", "Eight times the rows an update, minus the recipe of all", batch, "they need the updates"),
    ):
        if pairs:
            tables.append(differences(trials, name, title, pairs, measures))
            shown = [x for x in pairs if x[0] not in recovery.unrecovered(trials)] or pairs
            caption = f"{title}, {listed(label for label, _ in shown)}. Lines: 95 % intervals; dots: the seeds; "
            caption += "diamonds: surely not 0."
            figures.append(draw(folder, f"{name}.png", caption, lambda p=shown: forest(trials, p, measures[1:])))
            finding.append(in_short(trials, title, pairs, [ppl(end), passkey(end), needle(end, "number")], why))
    return Section(
        TITLE, PROTOCOL, tuple(tables), tuple(figures), tuple(finding), COMMAND,
        missing + (unasked(trials, averaged + larger, measures) if tables else ()),
    )  # fmt: skip


def in_short(
    trials: Trials, title: str, pairs: Sequence[tuple[str, Pair]], measures: Sequence[Measure], why: str
) -> str:
    """-> two sentences: methods that have recovered, then the others, and why these are worse if they are."""
    slow, (ppl, *scores) = recovery.unrecovered(trials), measures
    able, unable = ([x for x in pairs if (x[0] in slow) == lost] for lost in (False, True))
    lines = []
    if able:
        changed = [f"{m.name} is {said}" for m in scores if (said := clause(trials, able, m, noise=False))]
        tail = f"of scores, {listed(changed)}" if changed else "no score changes surely"
        lines.append(f"{title}: of methods that have recovered, {ppl.name} is {clause(trials, able, ppl)}; {tail}.")
    if unable:
        said = clause(trials, unable, ppl)
        lines.append(f"Of methods that had not recovered it is {said}" + f": {why}" * ("surely worse" in said) + ".")
    return " ".join(lines)
