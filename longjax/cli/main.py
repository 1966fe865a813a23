"""The command line: flags from signatures, one line for a user's mistake."""

import functools
import sys
from collections.abc import Callable
from typing import NoReturn

import jax
from absl import app, logging
from absl import flags as absl_flags

from longjax import made_by_0_1
from longjax.cli import flags, options
from longjax.methods import Method, method_identity
from longjax.progress import LineProgress, no_progress
from longjax.sharding import distributed
from longjax.study import runner
from longjax.study.arms import method_arm
from longjax.study.workspace import Workspace
from longjax.training.trainer import PreemptedError

absl_flags.disclaim_key_flags()  # --help lists them under the script that asks for them

REQUEUE = 75  # exit code of a run that saved and made room (EX_TEMPFAIL): schedulers may start it again


def start(
    main: Callable[[], None], values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None
) -> None:
    """Parses the flags and runs `main`. A user's mistake ends with one line and exit code 2."""

    def checked(rest):
        if len(rest) > 1:
            fail(f"unknown argument {rest[1]}: flags begin with --")
        if "verbosity" not in values or not values["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries tell of every file that they write
        try:
            main()
        except ValueError as error:
            fail(str(error))
        except PreemptedError as told:
            print(f"{told}: the same command goes on from here", file=sys.stderr)
            sys.exit(REQUEUE)
        except KeyboardInterrupt:
            print("\ninterrupted: the same command goes on from here", file=sys.stderr)
            sys.exit(130)

    def parse(argv):
        try:
            return values(argv)
        except absl_flags.Error as error:
            fail(str(error))

    if argv is not None:  # a test
        checked(parse(argv))
    else:
        app.run(checked, flags_parser=parse)


def fail(message: str) -> NoReturn:
    print("error: " + " ".join(message.split("\n")), file=sys.stderr)
    sys.exit(2)


def prepare_workspace(space: Workspace) -> None:
    """Tokens and settings, or a clear error if the folder holds another study. The first host writes."""
    if jax.process_index() == 0:
        space.prepare()
        space.write_or_check_settings(space.seed_folder / "settings.json", space.settings(), made_by_0_1.study)
    distributed.barrier("the folder is prepared")


def seal_method(space: Workspace, name: str, method: Method) -> None:
    if jax.process_index() == 0:
        identity = method_identity(method)
        older = functools.partial(made_by_0_1.of_method, method=method, identity=identity)
        space.write_or_check_settings(space.method_folder(name) / "method.json", {"method": identity}, older)


def experiment(
    make: Callable[..., Method], values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None
) -> None:
    """The command `python -m experiments.<method>`: from base to records, with a flag for each parameter."""
    method, define_rest = flags.define(make, flag_values=values), options.define(values)

    def main():
        asked, space, at = define_rest()
        name, chosen = asked.method(make.__name__, method(space.preset.settings.get(make.__name__, {})))
        prepare_workspace(space)
        seal_method(space, name, chosen)
        arm = method_arm(space.preset, name, chosen)
        runner.run_arm(space, arm, LineProgress(name) if jax.process_index() == 0 else no_progress, at)

    start(main, values, argv)
