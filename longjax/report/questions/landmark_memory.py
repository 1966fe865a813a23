"""(b) Landmark's perplexity with its memory, and as it was released: in parts of 512 tokens without it."""

import math
import pathlib
from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator

from longjax.report.bootstrap import mean_of, paired
from longjax.report.measures import Measure, ppl
from longjax.report.panels import Curve, Marks, log_panels
from longjax.report.questions.comparing import COMMAND, absent, draw, in_words, values
from longjax.report.questions.section import Section
from longjax.report.tables import Column, Table
from longjax.report.trials import RESAMPLES, Answers, Trials, Versus

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
    figures = ()
    if both := asked_both(trials):
        title = "Perplexity of the same windows, with memory and without; those of another length are other text."
        figures = (draw(folder, "b_landmark_memory.png", title, lambda: picture(trials, both)),)
    finding = (*(forgotten(trials) or [UNANSWERED]), *own_context(trials), *growing(trials, lengths))
    return Section(TITLE, PROTOCOL, (by_length, protocols(trials, arms, end)), figures, finding, COMMAND, missing)


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


def picture(trials: Trials, lengths: list[int]) -> Any:
    protocols = {"with memory": "lceg", "forgets": FORGETFUL}
    found = [curve(trials, label, [ppl(n, protocol) for n in lengths]) for label, protocol in protocols.items()]
    figure, axes = log_panels([c for c in found if c.x], Marks(trials.trained, trials.extended), most=1.2)
    axes[0].xaxis.set_major_locator(FixedLocator(lengths))
    axes[0].set(xlabel="context length (tokens)", ylabel="perplexity", title="")
    return figure


def curve(trials: Trials, label: str, measures: list[Measure]) -> Curve:
    points = [(float(m.length or 0), trials.value(m, "landmark")) for m in measures]
    good = [(n, v) for n, v in points if math.isfinite(v)]
    return Curve(label, "landmark", [n for n, _ in good], [v for _, v in good])
