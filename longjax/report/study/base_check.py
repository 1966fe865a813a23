"""What the base can do inside its own context: what no method can be asked to carry further."""

from longjax.report.aggregates import RULER_TASKS
from longjax.report.rows import ReportSubject
from longjax.report.study import measures
from longjax.report.study.measures import Measure
from longjax.report.study.text import listed
from longjax.report.study.trials import Trials
from longjax.report.tables import Column, Table

KNOWN = 0.95  # of the questions: from there on a loss at other lengths is the method's
MEAN = "RULER, mean of 13 tasks"
TITLE = "What the base can do inside its context"


def asked(trials: Trials) -> dict[str, Measure]:
    """-> by what they are called, those that the base was put to at its own length."""
    own = trials.trained
    found = {"pass keys": measures.passkey(own), "needle number": measures.needle(own, "number")}
    found |= {"needle sentence": measures.needle(own), MEAN: measures.ruler(own)}
    found |= {task: measures.ruler(own, task) for task in RULER_TASKS}
    return {name: m for name, m in found.items() if "base" in trials.arms and trials.number(m, "base") is not None}


def table(trials: Trials) -> Table:
    lines = tuple(
        (ReportSubject(name, "", "", "", name), (trials.number(m, "base"),)) for name, m in asked(trials).items()
    )
    return Table("inside", TITLE, (Column(f"base at {trials.trained}, %"),), lines, (), "test")


def finding(trials: Trials) -> str:
    """-> what it knows, and what it does not."""
    found = {name: trials.value(m, "base") for name, m in asked(trials).items()}
    if not found:
        return ""
    sure = [name for name, x in found.items() if x >= KNOWN]
    weak = {name: f"{name} ({100 * x:.0f})" for name, x in found.items() if x < KNOWN and name != MEAN}
    head = f"Inside its own {trials.trained} tokens the base answers {100 * KNOWN:.0f} % or more of {listed(sure)}"
    tail = f"; less of {listed(weak.values())}: a low score there at other lengths is not the method's alone"
    return f"{head}{tail if weak else ''}."
