"""(b) Landmark's perplexity with its memory, and as it was released: in parts of 512 tokens without it."""

import math
import pathlib

import numpy as np

from longjax.report.measures import ppl
from longjax.report.rows import Number, ReportSubject
from longjax.report.stats.bootstrap import mean_of, paired
from longjax.report.study.questions.base import Section
from longjax.report.study.questions.comparisons import COMMAND, INTERVALS, difference_number, missing_arms, value_table
from longjax.report.study.trials import RESAMPLES, RecordsByTask, Trials, Versus
from longjax.report.tables import Column, Table

ARMS = ("base", "landmark")
WITHOUT = "landmark_lceg"  # the protocol: parts of 512 tokens
PROTOCOLS = ("nested", "lceg", WITHOUT)
TITLE = "What is Landmark's memory worth?"
PROTOCOL = """The released evaluation of Landmark reads a window in parts of 512 tokens and discards everything between
them (protocol landmark_lceg). Here the blocks of all earlier parts stay in memory, and each query opens the best few of
them (protocols nested and lceg, as for all methods). The weights are the same. The base, which reads no more than its
own context well, shows what a longer text is worth to a model that attends to all of it."""
PPL = Column("PPL", 1.0, 2)
UNANSWERED = (
    "Not answered by this run: Landmark was not evaluated without its memory (landmark_lceg) and with it (lceg) over "
    "the same windows."
)


def section(trials: Trials, folder: pathlib.Path) -> Section:
    """Compare Landmark with its memory and without it."""
    missing = missing_arms(trials, ARMS)
    if "landmark" not in trials.arms:
        return Section(TITLE, PROTOCOL, missing=missing)
    missing += tuple(f"Landmark by protocol {p} was not run" for p in PROTOCOLS if not _lengths(trials, p))
    arms, end = [arm for arm in ARMS if arm in trials.arms], trials.extended
    columns = [ppl(n) for n in _lengths(trials, "nested")]
    by_length = value_table(trials, "b_by_length", "With memory, by length (nested)", arms, columns)
    note = "lceg and landmark_lceg score the same windows; nested others, the same tokens at every length."
    by_protocol = [ppl(end, p) for p in PROTOCOLS]
    protocols = value_table(trials, "b_protocols", f"By protocol, at {end}", arms, by_protocol, (note,))
    tables, finding = [by_length, protocols], UNANSWERED
    memory = {n: x for n in _common_lengths(trials) if (x := memory_difference(trials, n)) is not None}
    if memory:
        tables.append(_memory_table(trials, memory))
        finding = memory_finding(max(memory), memory[max(memory)])
    return Section(TITLE, PROTOCOL, tuple(tables), (), finding, command=COMMAND, missing=missing)


def _lengths(trials: Trials, protocol: str, arm: str = "landmark") -> list[int]:
    rows = [r for seed in trials.seeds for r in trials.rows_of(arm, seed) if r["task"] == "perplexity"]
    return sorted({r["length"] for r in rows if r["protocol"] == protocol})


def _common_lengths(trials: Trials) -> list[int]:
    """-> lengths whose windows were scored with memory and without."""
    return sorted(set(_lengths(trials, WITHOUT)) & set(_lengths(trials, "lceg")))


def _memory_table(trials: Trials, memory: dict[int, Versus]) -> Table:
    lines = []
    for length, versus in memory.items():
        windows = _common_windows(trials, length)
        counts = [Number(float(len(x))) for x in (windows, {document for document, _ in windows})]
        values = [Number(x) for x in (versus.pooled.b, versus.pooled.a)]
        cells = (*values, difference_number(versus, PPL), *counts)
        lines.append((ReportSubject(str(length), "", "", "", str(length)), cells))
    heads = (
        Column("PPL with memory", 1.0, 2), Column("PPL without", 1.0, 2), Column("difference", 1.0, 2),
        Column("windows", 1.0, 0), Column("documents", 1.0, 0),
    )  # fmt: skip
    title = "With memory and without, over the same windows"
    return Table("b_memory", title, heads, tuple(lines), (INTERVALS,), "length")


def memory_finding(length: int, versus: Versus) -> str:
    """Return the answer at one length."""
    with_memory, without = versus.pooled.b, versus.pooled.a
    low, high = versus.interval
    return (
        f"At {length} Landmark's perplexity is {with_memory:.2f} with its memory and {without:.2f} without it, "
        f"{100 * abs(with_memory / without - 1):.1f} % {'less' if with_memory < without else 'more'} "
        f"({versus.difference:+.2f}, 95 % interval {low:+.2f} to {high:+.2f})."
    )


def memory_difference(trials: Trials, length: int) -> Versus | None:
    """Return with memory minus without, over windows that both protocols have; those of a document are drawn together.

    None: there are none.
    """
    parts = {}
    for seed in trials.seeds:
        memory, without = (window_losses(trials.records(ppl(length, p), "landmark", seed)) for p in ("lceg", WITHOUT))
        if both := sorted(memory.keys() & without.keys()):
            a, b = ([losses[window] for window in both] for losses in (without, memory))
            documents = [document for document, _ in both]
            parts[seed] = paired(a, b, None, documents, np.exp, seed, RESAMPLES)
    return Versus(parts, mean_of(list(parts.values()))) if parts else None


def _common_windows(trials: Trials, length: int) -> set[tuple[int, int]]:
    """-> document and start of the windows that both protocols have, of any seed."""
    memory, without = (
        {key for seed in trials.seeds for key in window_losses(trials.records(ppl(length, p), "landmark", seed))}
        for p in ("lceg", WITHOUT)
    )
    return memory & without


def window_losses(records_by_task: RecordsByTask) -> dict[tuple[int, int], float]:
    """Return the mean loss of each window (document, start) over its parts; without those of no finite loss."""
    sums: dict[tuple[int, int], list[float]] = {}
    for record in (r for records in records_by_task.values() for r in records):
        loss = math.nan if record["nll"] is None else record["nll"] / record["n"]
        total = sums.setdefault((record["document"], record["start"]), [0.0, 0.0])
        total[0] += record["weight"] * loss
        total[1] += record["weight"]
    return {window: loss / weight for window, (loss, weight) in sums.items() if math.isfinite(loss)}
