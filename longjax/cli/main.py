"""What all commands share: parsing the command line, help, and one line for a user's mistake."""

import logging as python_logging
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import flags, logging

from longjax.cli import renamed_flags
from longjax.training.trainer import PreemptedError

HELP = {"-h", "--help", "--helpshort", "--helpfull"}
REQUEUE = 75  # exit code of a preempted run that has saved its state (EX_TEMPFAIL): schedulers may start it again


def start(
    command: Callable[[], None], values: flags.FlagValues, argv: list[str] | None = None, doc: str | None = None
) -> None:
    """Parses the command line and runs a command. A user's mistake ends it with one line and exit code 2.

    Args:
      command: called after its flags have been parsed.
      values: the flags that it has defined.
      argv: the program's name and its arguments; None: those of this process.
      doc: what --help prints above the flags; None: the docstring of the script that is running.

    """
    argv = renamed_flags.replace(sys.argv if argv is None else argv, values)
    if HELP & {*argv}:
        print((doc or sys.modules["__main__"].__doc__ or "").strip(), values.main_module_help(), sep="\n\n")
        return
    try:
        stray = values(argv)[1:]
        if stray:
            raise ValueError(f"unknown argument {stray[0]}: flags begin with --")
        set_up_logging(values)
        command()
    except (ValueError, flags.Error) as error:
        fail(str(error))
    except PreemptedError as preempted:
        print(f"{preempted}; the same command resumes it", file=sys.stderr)
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes it", file=sys.stderr)
        sys.exit(130)


def set_up_logging(values: flags.FlagValues) -> None:
    """Logs warnings only, unless --verbosity is given: libraries log every file that they write."""
    if not python_logging.root.handlers:
        logging.use_absl_handler()
    if "verbosity" not in values or not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)


def fail(message: str) -> NoReturn:
    """Prints the message as one line of stderr and exits with code 2."""
    print("error: " + " ".join(message.split("\n")), file=sys.stderr)
    sys.exit(2)
