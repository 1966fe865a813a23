"""What orbax logs and tensorstore prints of a failed save, which is said in one line, is not shown; all else is."""

import logging
import types

from longjax.training.orbax_logs import FAULTS, TEMPORARY, WithoutClosedLoops


def record(path="/x/site-packages/orbax/checkpoint/a.py", level=logging.ERROR, fault=None, message="failed"):
    exc_info = None if fault is None else (type(fault), fault, None)
    return logging.LogRecord("absl", level, path, 1, message, (), exc_info)


def test_only_faults_of_saving_are_dropped():
    assert not FAULTS.filter(record())
    assert not FAULTS.filter(record("asyncio/base_events.py", fault=ValueError(f"cannot write 2{TEMPORARY}/x")))
    assert not FAULTS.filter(record("asyncio/base_events.py", message=f"future: 2{TEMPORARY}"))
    assert FAULTS.filter(record(level=logging.WARNING))
    assert FAULTS.filter(record("asyncio/base_events.py", fault=ValueError("another")))


def test_only_callbacks_into_closed_loops_are_hidden():
    shown = []
    hook = WithoutClosedLoops(shown.append)
    faults = [
        types.SimpleNamespace(exc_type=type(error), exc_value=error)
        for error in (RuntimeError("Event loop is closed"), RuntimeError("another"), ValueError("Event loop is closed"))
    ]
    for fault in faults:
        hook(fault)
    assert shown == faults[1:]
