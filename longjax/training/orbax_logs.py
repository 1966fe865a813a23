"""Keeps orbax's tracebacks of faults out of the terminal that are raised to us, and said in one line."""

import logging

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
    """Installs the filter, once."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(FAULTS)
