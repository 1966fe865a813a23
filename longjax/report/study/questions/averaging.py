"""(c) What is the average of the weights worth, and what do eight times larger updates change?"""

import pathlib

from longjax.report.measures import needle, passkey, ppl
from longjax.report.study import recovery
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import (
    COMMAND,
    Pair,
    clause,
    difference_table,
    draw_figure,
    forest,
    missing_arms,
    missing_measures,
)  # fmt: skip
from longjax.report.study.trials import Trials

LARGER = "_batch32"
ARMS = ("pi", "yarn")
TITLE = "What do averaged weights (EMA) and larger batches change?"
PROTOCOL = """Every trained method is evaluated twice: with the exponential moving average of its weights, as the paper
describes and no released code has, and with the last weights as they are. Two methods are also trained with eight
times the rows an update and an eighth of the updates: the same tokens, the same learning rate."""


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare averaged weights with the last ones, and larger batches with the recipe of all."""
    end = trials.extended
    measures = [ppl(trials.trained), ppl(end), ppl(trials.longest), passkey(end), needle(end, "number")]
    averaged = [arm for arm in trials.main if {"ema", "raw"} <= set(trials.weights(arm))]
    larger = [arm for arm in ARMS if {arm, arm + LARGER} <= set(trials.arms)]
    missing = missing_arms(trials, [arm + LARGER for arm in ARMS])
    missing += () if averaged else ("no method was evaluated with both weights",)
    tables, figures, findings = [], [], []
    for name, title, pairs in (
        ("c_averaging", "Averaged weights minus the last ones", [(x, Pair(x, x, "ema", "raw")) for x in averaged]),
        (
            "c_batch",
            "Eight times the rows an update, minus the recipe of all",
            [(x, Pair(x + LARGER, x)) for x in larger],
        ),
    ):
        if pairs:
            tables.append(difference_table(trials, name, title, pairs, measures))
            shown = [x for x in pairs if x[0] not in recovery.unrecovered(trials)] or pairs
            caption = f"{title}, {', '.join(label for label, _ in shown)}. Lines: 95 % intervals; dots: the seeds; "
            caption += "diamonds: significant."
            figures.append(draw_figure(folder, f"{name}.png", caption, lambda p=shown: forest(trials, p, measures[1:])))
            findings.append(f"{title}: PPL {end} {clause(trials, pairs, ppl(end))}.")
    missing += missing_measures(trials, averaged + larger, measures) if tables else ()
    finding = " ".join(findings)
    return Section(TITLE, PROTOCOL, tuple(tables), tuple(figures), finding, command=COMMAND, missing=missing)
