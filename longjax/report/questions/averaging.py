"""(c) What is the average of the weights worth, and what do eight times larger updates change?"""

import pathlib

from longjax.report.measures import needle, passkey, ppl
from longjax.report.questions.comparing import COMMAND, Pair, absent, differences, draw, forest, unasked, verdicts
from longjax.report.questions.section import Section
from longjax.report.trials import Trials

LARGER = "_batch64"
ARMS = ("pi", "ntk_32k", "yarn")
TITLE = "What do averaged weights (EMA) and larger batches change?"
PROTOCOL = """Every trained method is evaluated twice: with the exponential moving average of its weights, as the paper
describes and no released code has, and with the last weights as they are. Three methods are also trained with eight
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
    for name, title, pairs in (
        ("c_averaging", "Averaged weights minus the last ones", ema),
        ("c_batch", "Eight times the rows an update, minus the recipe of all", batch),
    ):
        if pairs:
            tables.append(differences(trials, name, title, pairs, measures))
            caption = f"{title}. Lines: 95 % intervals; dots: the seeds; diamonds: surely not 0."
            figures.append(draw(folder, f"{name}.png", caption, lambda p=pairs: forest(trials, p, measures[1:])))
            finding.append(f"{title}, {len(pairs)} methods. " + " ".join(verdicts(trials, pairs, measures[1:])))
    return Section(
        TITLE, PROTOCOL, tuple(tables), tuple(figures), tuple(finding), COMMAND,
        missing + (unasked(trials, averaged + larger, measures) if tables else ()),
    )  # fmt: skip
