"""What all commands share: parsing the command line, help, and one line for a user's mistake."""

import contextlib
import logging as python_logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import flags, logging

from longjax.cli import renamed_flags
from longjax.training.trainer import PreemptedError

HELP = {"-h", "--help", "--helpshort", "--helpfull"}
REQUEUE = 75  # exit code of a preempted run that has saved its state (EX_TEMPFAIL): schedulers may start it again
BROKEN_PIPE = 141  # exit code of a program that the reader of its output has left, as of those that SIGPIPE kills


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
    try:
        if HELP & {*argv}:
            text = doc or sys.modules["__main__"].__doc__ or ""
            print(text.strip(), values.main_module_help(), sep="\n\n", flush=True)
            return
        stray = values(argv)[1:]
        if stray:
            raise ValueError(f"unknown argument {stray[0]}: flags begin with --")
        set_up_logging(values)
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        discard_stdout()
        fail(f"{error.filename or 'the output'}: {error.strerror or error}; check the path, its permissions and space")
    except (ValueError, flags.Error) as error:
        fail(str(error))
    except PreemptedError as preempted:
        print(f"{preempted}; the same command resumes it", file=sys.stderr)
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes it", file=sys.stderr)
        sys.exit(130)


def discard_stdout() -> None:
    """Sends what stdout still buffers to the null device, so that the interpreter does not fail on it at its end."""
    with contextlib.suppress(OSError):  # stdout of a test has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
