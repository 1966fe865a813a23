"""(b) Landmark's perplexity with its memory, and as it was released: in parts of 512 tokens without it."""

import math
import pathlib

import numpy as np

from longjax.report.stats.bootstrap import mean_of, paired
from longjax.report.study.measures import ppl
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import COMMAND, absent, in_words, values
from longjax.report.study.trials import RESAMPLES, Answers, Trials, Versus
from longjax.report.tables import Column, Table

ARMS = ("base", "landmark")
FORGETFUL = "landmark_lceg"  # the protocol: parts of 512 tokens
PROTOCOLS = ("nested", "lceg", FORGETFUL)
TITLE = "What is Landmark's memory worth?"
PROTOCOL = """The released evaluation of Landmark reads a window in parts of 512 tokens and forgets everything between
them (protocol landmark_lceg). Here the blocks of all earlier parts stay in memory, and each query opens the best few of
them (protocols nested and lceg, as for all methods). The weights are the same. The base, which reads no more than its
own context well, says what a longer text is worth to a model that has it all."""
PPL = Column("PPL", 1.0, 2)
UNANSWERED = (
    "This run does not answer the question: Landmark was not read without its memory (landmark_lceg) and with it "
    "(lceg) over the same windows."
)


def section(trials: Trials, folder: pathlib.Path) -> Section:
    missing = absent(trials, ARMS)
    lengths = asked(trials, "nested")
    if "landmark" not in trials.arms:
        return Section(TITLE, PROTOCOL, missing=missing)
    missing += tuple(f"Landmark was not asked by protocol {p}" for p in PROTOCOLS if not asked(trials, p))
    arms, end = [arm for arm in ARMS if arm in trials.arms], trials.extended
    by_length = values(trials, "b_by_length", "With memory, by length (nested)", arms, list(map(ppl, lengths)))
    finding = (*(forgotten(trials) or [UNANSWERED]), *own_context(trials), *growing(trials, lengths))
    return Section(TITLE, PROTOCOL, (by_length, protocols(trials, arms, end)), (), finding, COMMAND, missing)


def asked(trials: Trials, protocol: str, arm: str = "landmark") -> list[int]:
    """-> lengths at which the arm was asked so."""
    rows = [r for seed in trials.seeds for r in trials.of(arm, seed) if r["task"] == "perplexity"]
    return sorted({r["length"] for r in rows if r["protocol"] == protocol})


def asked_both(trials: Trials) -> list[int]:
    """-> lengths whose windows were read with memory and without."""
    return sorted(set(asked(trials, FORGETFUL)) & set(asked(trials, "lceg")))


def protocols(trials: Trials, arms: list[str], end: int) -> Table:
    measures = [ppl(end, p) for p in PROTOCOLS]
    note = "lceg and landmark_lceg score the same windows; nested others, the same tokens at every length."
    return values(trials, "b_protocols", f"By protocol, at {end}", arms, measures, (note,))


def forgotten(trials: Trials) -> list[str]:
    """-> with memory against without, at every length that has both of the study's protocols."""
    lines = []
    for length in asked_both(trials):
        found, windows = remembered(trials, length), in_both(trials, length)
        if found is None:
            continue
        kept, lost = found.together.b, found.together.a
        lines.append(
            f"At {length}, over the same {len(windows)} windows of {len({document for document, _ in windows})} "
            f"documents, Landmark's perplexity is {kept:.2f} with its memory and {lost:.2f} in parts of 512 tokens "
            f"without it: {in_words(found, PPL)}, {100 * abs(kept / lost - 1):.1f} % "
            f"{'less' if kept < lost else 'more'} with memory."
        )
    return lines


def remembered(trials: Trials, length: int) -> Versus | None:
    """-> with memory minus without, over windows that both protocols have; those of a document are drawn together."""
    parts = {}
    for seed in trials.seeds:
        kept, lost = (by_window(trials.records(ppl(length, p), "landmark", seed)) for p in ("lceg", FORGETFUL))
        if both := sorted(kept.keys() & lost.keys()):
            a, b = ([x[window] for window in both] for x in (lost, kept))
            documents = [document for document, _ in both]
            parts[seed] = paired(a, b, None, documents, np.exp, seed, RESAMPLES)
    return Versus(parts, mean_of(list(parts.values()))) if parts else None


def in_both(trials: Trials, length: int) -> set[tuple[int, int]]:
    """-> document and start of the windows that both protocols have, of any seed."""
    kept, lost = (
        {key for seed in trials.seeds for key in by_window(trials.records(ppl(length, p), "landmark", seed))}
        for p in ("lceg", FORGETFUL)
    )
    return kept & lost


def by_window(answers: Answers) -> dict[tuple[int, int], float]:
    """-> the mean loss of each window, which parts of it add up to; those without a finite loss are left out."""
    sums: dict[tuple[int, int], list[float]] = {}
    for record in (r for records in answers.values() for r in records):
        loss = math.nan if record["nll"] is None else record["nll"] / record["n"]
        total = sums.setdefault((record["document"], record["start"]), [0.0, 0.0])
        total[0] += record["weight"] * loss
        total[1] += record["weight"]
    return {window: loss / weight for window, (loss, weight) in sums.items() if math.isfinite(loss)}


def own_context(trials: Trials) -> list[str]:
    """-> Landmark at the extended length beside the base at its own."""
    short, long = (
        trials.value(m, arm) for m, arm in ((ppl(trials.trained), "base"), (ppl(trials.extended), "landmark"))
    )
    if not math.isfinite(short + long):
        return []
    return [
        f"The base has {short:.2f} at {trials.trained}, its own context; of the same text, Landmark has {long:.2f} at "
        f"{trials.extended}, {100 * abs(long / short - 1):.1f} % {'less' if long < short else 'more'}."
    ]


def growing(trials: Trials, lengths: list[int]) -> list[str]:
    """-> whether a longer text helps Landmark."""
    known = [n for n in lengths if math.isfinite(trials.value(ppl(n), "landmark"))]
    if len(known) < 2:
        return []
    best = min(known, key=lambda n: trials.value(ppl(n), "landmark"))
    first, last, low = (trials.value(ppl(n), "landmark") for n in (known[0], known[-1], best))
    return [
        f"From {known[0]} to {known[-1]} tokens Landmark goes from {first:.2f} to {last:.2f}; it is lowest at {best} "
        f"({low:.2f})."
    ]
