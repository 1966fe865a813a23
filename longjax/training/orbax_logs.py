"""Keeps orbax's tracebacks of faults out of the terminal that are raised to us, and said in one line."""

import dataclasses
import logging
import sys
from collections.abc import Callable
from typing import Any

TEMPORARY = ".orbax-checkpoint-tmp"  # part of the path of what is being saved


class OrbaxFaults(logging.Filter):
    """Drops errors that orbax logs beside raising them, and those of its abandoned tasks."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        fault = str(record.exc_info[1]) if record.exc_info else ""
        return not ("/orbax/" in record.pathname or TEMPORARY in fault or TEMPORARY in record.getMessage())


FAULTS = OrbaxFaults()


def drop_orbax_faults() -> None:
    """Installs the filter, and hides the callbacks of a failed save whose event loop is gone; once."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(FAULTS)
    if not isinstance(sys.unraisablehook, WithoutClosedLoops):
        sys.unraisablehook = WithoutClosedLoops(sys.unraisablehook)


@dataclasses.dataclass(frozen=True)
class WithoutClosedLoops:
    """Shows what a library cannot raise, but for callbacks into a closed event loop, which tensorstore tries."""

    show: Callable[[Any], Any]

    def __call__(self, fault: Any) -> None:
        if not (fault.exc_type is RuntimeError and str(fault.exc_value) == "Event loop is closed"):
            self.show(fault)
