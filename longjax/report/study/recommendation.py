"""The answer that a study is for: which method to use for quality, without training, and for the cost."""

import pathlib
import re
from collections.abc import Sequence

from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.study.main_table import ranked, significantly_better
from longjax.report.study.text import format_value, join_names
from longjax.report.study.trials import CONTROL, CONTROLS, Trials

COMPILED = re.compile(r"^\s*(?:compiled|estimate)\s+([\d.]+)", re.MULTILINE)  # GiB, in an arm's memory.txt


def recommendation(trials: Trials) -> list[str]:
    """Return the paragraphs of the recommendation; []: too little was run to recommend anything."""
    measure = quality_measure(trials)
    arms = [arm for arm in trials.main if trials.kind(arm) != "base"]
    if measure is None or not (order := ranked(trials, measure, arms)):
        return []
    frozen = [arm for arm in order if "frozen" in trials.kind(arm) and arm not in CONTROLS]
    lines = [choice_line(trials, measure, "For quality", order)]
    lines += [choice_line(trials, measure, "Without training", frozen)] if frozen else []
    lines += [cost_line(trials, measure, order), *control_line(trials)]
    head = f"## Recommendation\n\nBy {measure.name} at {trials.extended} tokens, then perplexity there."
    return [head, "\n".join(f"- {line}" for line in lines if line)]


def quality_measure(trials: Trials) -> Measure | None:
    """Return what methods are ranked by: RULER, needles or pass keys at the extended length; else perplexity there."""
    end = trials.extended
    wanted = (measures.ruler(end), measures.needle(end, "number"), measures.passkey(end), measures.ppl(end))
    return next((m for m in wanted if any(trials.value(m, arm) > 0 for arm in trials.main)), None)


def alike(trials: Trials, measure: Measure, order: Sequence[str]) -> list[str]:
    """Return the best arm and those not significantly worse, the one with the lowest perplexity first."""
    best = order[0]
    level = [arm for arm in order if arm == best or not significantly_better(trials, measure, best, arm)]
    by_ppl = ranked(trials, measures.ppl(trials.extended), level)
    return [*by_ppl, *(arm for arm in level if arm not in by_ppl)]


def choice_line(trials: Trials, measure: Measure, purpose: str, order: Sequence[str]) -> str:
    """Return which arm is the best of these, how good it is, what it costs, and what cannot be told from it."""
    first, *level = alike(trials, measure, order)
    tail = f" Not told apart from it: {join_names(level)}." if level else " All others are significantly behind."
    return f"**{purpose}: {first}**: {quality(trials, measure, first)}; {cost(trials, first)}.{tail}"


def cost_line(trials: Trials, measure: Measure, order: Sequence[str]) -> str:
    """Return the arm that costs least of those that cannot be told from the best."""
    level = [arm for arm in alike(trials, measure, order) if arm not in CONTROLS]
    if not level:
        return ""
    first = min(level, key=lambda arm: (training_seconds(trials, arm), evaluation_seconds(trials, arm)))
    return f"**For the cost: {first}**: {quality(trials, measure, first)}; {cost(trials, first)}."


def quality(trials: Trials, measure: Measure, arm: str) -> str:
    """Return an arm's scores in words, with the standard error of the questions."""
    ppl = measures.ppl(trials.extended)
    parts = [with_error(trials, measure, arm)]
    if measure != ppl and trials.number(ppl, arm) is not None:
        parts.append(f"{ppl.name} {format_value(ppl, trials.value(ppl, arm))}")
    return ", ".join(parts)


def with_error(trials: Trials, measure: Measure, arm: str) -> str:
    """Return a measure of an arm in words: RULER 32768 61.0 +- 3.2 %."""
    number = trials.number(measure, arm)
    value = format_value(measure, trials.value(measure, arm))
    error = "" if number is None or not number.stderr else f" +- {format_value(measure, number.stderr)}"
    return f"{measure.name} {value}{error}{'' if measure.is_ppl else ' %'}"


def cost(trials: Trials, arm: str) -> str:
    """Return what an arm took on the study's device."""
    memory, seconds = training_gib(trials, arm), training_seconds(trials, arm)
    parts = [f"{duration(seconds)} of training" if seconds else "no training"]
    parts += [f"{memory:.2g} GiB"] if memory and seconds else []
    base = evaluation_seconds(trials, "base")
    if base and arm != "base":
        parts.append(f"its tests took {evaluation_seconds(trials, arm) / base:.2g} times the base's time")
    return ", ".join(parts)


def control_line(trials: Trials) -> list[str]:
    """Return what the text's domain is worth, from the base trained on the same tokens at its own length."""
    own = measures.ppl(trials.trained)
    if CONTROL not in trials.arms or trials.number(own, "base") is None:
        return []
    before, after = (format_value(own, trials.value(own, arm)) for arm in ("base", CONTROL))
    return [
        f"Of a trained method's perplexity, the text itself is worth this much: the base has {before} at its own "
        f"{trials.trained} tokens, and {after} after training on the same tokens without extension ({CONTROL})."
    ]


def training_seconds(trials: Trials, arm: str) -> float:
    """Return the mean over seeds of an arm's training."""
    found = [rows[0].get("train_seconds") or 0.0 for seed in trials.seeds if (rows := trials.rows_of(arm, seed))]
    return sum(found) / max(1, len(found))


def evaluation_seconds(trials: Trials, arm: str) -> float:
    """Return the seconds of all tests of an arm, of the seeds together."""
    return sum(row.get("seconds") or 0.0 for seed in trials.seeds for row in trials.rows_of(arm, seed))


def training_gib(trials: Trials, arm: str) -> float | None:
    """Return the memory of an arm's training step, as the compiler reported it; None: not known."""
    path = pathlib.Path(trials.seed_folder(trials.seeds[0]), "methods", arm, "memory.txt")
    found = COMPILED.findall(path.read_text("utf-8")) if path.is_file() else []
    return float(found[-1]) if found else None


def duration(seconds: float) -> str:
    """Return a time in words."""
    return f"{seconds / 3600:.2g} hours" if seconds >= 3600 else f"{max(seconds / 60, 0.1):.2g} minutes"
