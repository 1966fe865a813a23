"""Who has not recovered: trained methods that at the base's own length are still worse than the base.

Of such a method a study of few updates tells how fast it recovers, not what it can do. All methods see the same rows
in the same order, and rows differ more than methods do, so a training loss is read as what it is above the lowest of
all methods at the same update.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from longjax.report.rows import Number
from longjax.report.study import measures
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials, over_seeds
from longjax.report.tables import Column, Table
from longjax.training import metrics_writer

MOST = 1.1  # times the base's perplexity
PAPER = 1e9  # tokens of each extension in the paper
TITLE = "Who has not recovered"
LOGGED = {"loss", "grad_norm", "tokens_seen"}


def ratio(trials: Trials, arm: str) -> Number | None:
    """-> perplexity at the base's length over the base's, seed by seed; None: not both were asked."""
    found, own = [], measures.ppl(trials.trained)
    for seed in trials.seeds:
        mine, base = (trials.of_seed(own, name, seed) for name in (arm, "base"))
        if mine is not None and base is not None and mine.value is not None and base.value:
            found.append(Number(mine.value / base.value))
    return over_seeds(found, len(trials.seeds))


def trained(trials: Trials) -> list[str]:
    return [arm for arm in trials.main if trials.kind(arm).endswith(" trained")]


@functools.cache
def unrecovered(trials: Trials) -> list[str]:
    """-> of the trained main arms."""
    known = {arm: x for arm in trained(trials) if (x := ratio(trials, arm)) is not None}
    return [arm for arm, x in known.items() if x.value is None or x.value > MOST]


def recovered(trials: Trials, arms: Sequence[str]) -> list[str]:
    """-> all but those, frozen ones included."""
    return [arm for arm in arms if arm not in unrecovered(trials)]


def tokens(trials: Trials) -> float:
    """-> of each extension, by its log; NaN: there is none. Inserted tokens are no text, so the least counts."""
    seen = [steps[-1]["tokens_seen"] for arm in trained(trials) for steps in training(trials, arm).values()]
    return min(seen, default=math.nan)


def at_so_many(trials: Trials) -> str:
    """-> "at 5.24 M tokens"."""
    count = tokens(trials)
    return "in this training" if math.isnan(count) else f"at {count / 1e6:.3g} M tokens"


@functools.cache
def training(trials: Trials, arm: str) -> dict[int, list[dict]]:
    """-> the log of each seed that has one, losses and norms that are not finite as infinite."""
    folders = {seed: trials.own(seed) / "methods" / arm for seed in trials.seeds}
    found = {
        seed: metrics_writer.read_metrics(folder)
        for seed, folder in folders.items()
        if (folder / metrics_writer.NAME).is_file()
    }
    return {seed: lines for seed, lines in found.items() if lines and lines[-1].keys() >= LOGGED}


def numbers(lines: Sequence[dict], name: str) -> np.ndarray:
    return np.array([math.inf if line[name] is None else line[name] for line in lines])


def above(trials: Trials, arm: str) -> dict[int, np.ndarray]:
    """-> by seed, the loss of each update above the lowest of all main arms that saw the same rows."""
    found = {}
    for seed, mine in training(trials, arm).items():
        logged = [training(trials, name)[seed] for name in trained(trials) if seed in training(trials, name)]
        rows = [numbers(one, "loss") for one in logged if len(one) == len(mine)]
        found[seed] = numbers(mine, "loss") - np.min(rows, axis=0)
    return found


def last_quarter(trials: Trials, arm: str) -> tuple[Number | None, Number | None]:
    """-> the mean loss above the lowest in the last quarter, and its slope in nats for ten updates."""
    parts = [x[-max(2, len(x) // 4) :] for x in above(trials, arm).values() if len(x) > 1]
    means = [Number(float(x.mean())) for x in parts]
    slopes = [Number(10 * float(np.polyfit(np.arange(len(x)), x, 1)[0])) for x in parts]
    return over_seeds(means, len(trials.seeds)), over_seeds(slopes, len(trials.seeds))


def largest_norm(trials: Trials, arm: str) -> Number | None:
    norms = [float(numbers(mine, "grad_norm").max()) for mine in training(trials, arm).values()]
    return Number(max(norms)) if norms else None


def table(trials: Trials) -> Table:
    own = measures.ppl(trials.trained)
    head = (
        own.column, Column("over the base's", 1.0, 2), Column("training loss above the lowest, last quarter", 1.0, 2),
        Column("its slope, nats for 10 updates", 1.0, 3), Column("largest gradient norm", 1.0, 2),
    )  # fmt: skip
    lines = []
    for arm in trained(trials):
        cells = (trials.number(own, arm), ratio(trials, arm), *last_quarter(trials, arm), largest_norm(trials, arm))
        lines.append((trials.subject(arm), cells))
    note = (
        "Training loss: above the lowest of all methods at the same update, on the same rows (Landmark's are cut into "
        "pieces of 512 tokens, so its loss is of less context). Of the norm, the largest of all seeds; learned "
        "frequencies (CLEX), which are clipped apart, are part of it."
    )
    return Table("recovery", TITLE, head, tuple(lines), (note,))


def finding(trials: Trials) -> str:
    """-> a sentence for the top of the page; "": nobody was trained, or the base was not asked."""
    if not any(ratio(trials, arm) for arm in trained(trials)):
        return ""
    count = tokens(trials)
    size = "" if math.isnan(count) else f" of {count / 1e6:.3g} M tokens (the paper's: {PAPER / 1e9:g} B)"
    lost = unrecovered(trials)
    if not lost:
        return (
            f"After an extension{size} all trained methods have recovered: within 10 % of the base at its own length."
        )
    own = measures.ppl(trials.trained)
    named = listed(f"{arm} ({trials.value(own, arm):.1f})" for arm in lost)
    return (
        f"After an extension{size} {len(lost)} of {len(trained(trials))} trained methods have not recovered: at the "
        f"base's own {trials.trained} tokens their perplexity is more than 10 % above the base's "
        f"{trials.value(own, 'base'):.1f}: {named}. What they could do after a longer training cannot be told here."
    )


def why(trials: Trials) -> list[str]:
    """-> of each, whether it was still on its way, and whether its updates were of any use."""
    lines = []
    for arm in unrecovered(trials):
        (level, slope), norm = last_quarter(trials, arm), largest_norm(trials, arm)
        if level is None or slope is None or norm is None or level.value is None or slope.value is None:
            continue
        falling = slope.value + (slope.half_range or 0.0) < 0
        rising = slope.value - (slope.half_range or 0.0) > 0
        way = (
            "still falls in every seed"
            if falling
            else "rises in every seed"
            if rising
            else "neither surely falls nor rises"
        )
        steep = f"; gradient norms reach {norm.value:.0e}" if (norm.value or 0) > 1e3 else ""
        lines.append(f"{arm}: {level.value:.2f} nats above the lowest, a distance that {way}{steep}.")
    return lines


def cannot(trials: Trials, arms: Sequence[str]) -> str:
    """-> " Left out: pi and clex (not recovered: cannot be told at 5.24 M tokens)."; "": there is nobody."""
    lost = [arm for arm in arms if arm in unrecovered(trials)]
    return f" Left out: {listed(lost)} (not recovered: cannot be told {at_so_many(trials)})." if lost else ""
