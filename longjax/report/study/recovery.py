"""Recovery: trained methods whose perplexity at the base's own length is still above the base's.

A study of few updates shows how fast such a method recovers, not what it can do. All methods see the same rows in the
same order, and rows differ more than methods do, so a training loss is taken relative to the lowest of all methods at
the same update.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from longjax.report import measures
from longjax.report.rows import Number
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials, number_over_seeds
from longjax.report.tables import Column, Table
from longjax.training import metrics_writer

RECOVERED = 1.1  # times the base's perplexity, at most
PAPER_TOKENS = 1e9  # of each extension in arXiv:2409.12181
TITLE = "Recovery"
LOGGED = {"loss", "grad_norm", "tokens_seen"}


def recovery_ratio(trials: Trials, arm: str) -> Number | None:
    """Return the perplexity at the base's length over the base's, seed by seed; None: not both were run."""
    ratios, own = [], measures.ppl(trials.trained)
    for seed in trials.seeds:
        method, base = (trials.number_of_seed(own, name, seed) for name in (arm, "base"))
        if method is not None and base is not None and method.value is not None and base.value:
            ratios.append(Number(method.value / base.value))
    return number_over_seeds(ratios, len(trials.seeds))


def trained_arms(trials: Trials) -> list[str]:
    """Return the main arms that were trained."""
    return [arm for arm in trials.main if trials.kind(arm).endswith(" trained")]


@functools.cache
def unrecovered(trials: Trials) -> list[str]:
    """Return the trained main arms above RECOVERED times the base's perplexity."""
    known = {arm: x for arm in trained_arms(trials) if (x := recovery_ratio(trials, arm)) is not None}
    return [arm for arm, x in known.items() if x.value is None or x.value > RECOVERED]


def recovered(trials: Trials, arms: Sequence[str]) -> list[str]:
    """Return all arms but those that have not recovered; frozen ones are among them."""
    return [arm for arm in arms if arm not in unrecovered(trials)]


def tokens_trained(trials: Trials) -> float:
    """Return the tokens of each extension by its log; NaN: there is none.

    Inserted tokens are no text, so the least of all arms counts.
    """
    seen = [steps[-1]["tokens_seen"] for arm in trained_arms(trials) for steps in _logs(trials, arm).values()]
    return min(seen, default=math.nan)


def training_size(trials: Trials) -> str:
    """Return "at 5.24 M tokens"."""
    count = tokens_trained(trials)
    return "in this training" if math.isnan(count) else f"at {count / 1e6:.3g} M tokens"


@functools.cache
def _logs(trials: Trials, arm: str) -> dict[int, list[dict]]:
    """-> the log of each seed that has one."""
    folders = {seed: trials.seed_folder(seed) / "methods" / arm for seed in trials.seeds}
    logs = {
        seed: metrics_writer.read_metrics(folder)
        for seed, folder in folders.items()
        if (folder / metrics_writer.NAME).is_file()
    }
    return {seed: lines for seed, lines in logs.items() if lines and lines[-1].keys() >= LOGGED}


def _series(lines: Sequence[dict], name: str) -> np.ndarray:
    """-> by update; what is not finite as infinite."""
    return np.array([math.inf if line[name] is None else line[name] for line in lines])


def _excess_loss(trials: Trials, arm: str) -> dict[int, np.ndarray]:
    """-> by seed, the loss of each update above the lowest of all main arms that saw the same rows."""
    excess = {}
    for seed, log in _logs(trials, arm).items():
        logs = [_logs(trials, name)[seed] for name in trained_arms(trials) if seed in _logs(trials, name)]
        losses = [_series(other, "loss") for other in logs if len(other) == len(log)]
        excess[seed] = _series(log, "loss") - np.min(losses, axis=0)
    return excess


def last_quarter(trials: Trials, arm: str) -> tuple[Number | None, Number | None]:
    """Return the mean loss above the lowest in the last quarter, and its slope in nats for ten updates."""
    parts = [x[-max(2, len(x) // 4) :] for x in _excess_loss(trials, arm).values() if len(x) > 1]
    means = [Number(float(x.mean())) for x in parts]
    slopes = [Number(10 * float(np.polyfit(np.arange(len(x)), x, 1)[0])) for x in parts]
    return number_over_seeds(means, len(trials.seeds)), number_over_seeds(slopes, len(trials.seeds))


def _largest_norm(trials: Trials, arm: str) -> Number | None:
    norms = [float(_series(log, "grad_norm").max()) for log in _logs(trials, arm).values()]
    return Number(max(norms)) if norms else None


def recovery_table(trials: Trials) -> Table:
    """Return a line a trained method."""
    own = measures.ppl(trials.trained)
    heads = (
        own.column, Column("over the base's", 1.0, 2), Column("training loss above the lowest, last quarter", 1.0, 2),
        Column("its slope, nats for 10 updates", 1.0, 3), Column("largest gradient norm", 1.0, 2),
    )  # fmt: skip
    lines = []
    for arm in trained_arms(trials):
        ratio, norm = recovery_ratio(trials, arm), _largest_norm(trials, arm)
        lines.append((trials.subject(arm), (trials.number(own, arm), ratio, *last_quarter(trials, arm), norm)))
    note = (
        "Training loss: above the lowest of all methods at the same update, on the same rows (Landmark's are cut into "
        "pieces of 512 tokens, so its loss is of less context). Slope: a negative one is still on its way. Norm: the "
        "largest of all seeds; learned frequencies (CLEX), which are clipped apart, are part of it."
    )
    return Table("recovery", TITLE, heads, tuple(lines), (note,))


def recovery_finding(trials: Trials) -> str:
    """Return who has not recovered; "": nothing was trained, or the base was not run."""
    if not any(recovery_ratio(trials, arm) for arm in trained_arms(trials)):
        return ""
    count = tokens_trained(trials)
    size = "" if math.isnan(count) else f" of {count / 1e6:.3g} M tokens (the paper's: {PAPER_TOKENS / 1e9:g} B)"
    slow = unrecovered(trials)
    if not slow:
        return (
            f"After an extension{size} all trained methods have recovered: within 10 % of the base at its own length."
        )
    own = measures.ppl(trials.trained)
    return (
        f"After an extension{size} {len(slow)} of {len(trained_arms(trials))} trained methods have not recovered: at "
        f"the base's own {trials.trained} tokens their perplexity is more than 10 % above the base's "
        f"{trials.value(own, 'base'):.1f}: {join_names(f'{arm} ({trials.value(own, arm):.1f})' for arm in slow)}."
    )


def left_out(trials: Trials, arms: Sequence[str]) -> str:
    """Return " Left out: pi and clex (not recovered at 5.24 M tokens)."; "": all have recovered."""
    slow = [arm for arm in arms if arm in unrecovered(trials)]
    return f" Left out: {join_names(slow)} (not recovered {training_size(trials)})." if slow else ""
