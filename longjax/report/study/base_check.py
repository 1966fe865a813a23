"""Scores of the base inside its own context, which bound what any method can carry further."""

from longjax.report import measures
from longjax.report.aggregates import RULER_TASKS
from longjax.report.measures import Measure
from longjax.report.rows import ReportSubject
from longjax.report.study.text import join_names
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

KNOWN = 0.95  # of the questions: from there on a loss at other lengths is the method's
TITLE = "Scores of the base inside its context"


def base_measures(trials: Trials) -> dict[str, Measure]:
    """Return by name the tests that were run for the base at its own length."""
    own = trials.trained
    candidates = {"pass keys": measures.passkey(own), "needle number": measures.needle(own, "number")}
    candidates |= {"needle sentence": measures.needle(own), "RULER, mean of 13 tasks": measures.ruler(own)}
    candidates |= {task: measures.ruler(own, task) for task in RULER_TASKS}
    return {n: m for n, m in candidates.items() if "base" in trials.arms and trials.number(m, "base") is not None}


def base_table(trials: Trials) -> Table:
    """Return a line a test."""
    lines = tuple(
        (ReportSubject(name, "", "", "", name), (trials.number(m, "base"),))
        for name, m in base_measures(trials).items()
    )
    return Table("inside", TITLE, (Column(f"base at {trials.trained}, %"),), lines, (), "test")


def base_finding(trials: Trials) -> str:
    """Return which tests the base passes; "": none was run for it."""
    values = {name: trials.value(m, "base") for name, m in base_measures(trials).items()}
    if not values:
        return ""
    return (
        f"Inside its own {trials.trained} tokens the base answers {100 * KNOWN:.0f} % or more of "
        f"{join_names(name for name, x in values.items() if x >= KNOWN)}; on all other tests a low score elsewhere is "
        "not the method's alone."
    )
