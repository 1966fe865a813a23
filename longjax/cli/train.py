r"""Trains and evaluates one method: longjax-train METHOD [flags].

  longjax-train yarn --preset=mini --factor=16 --run_dir=runs/yarn
  longjax-train yarn --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k --mesh_fsdp=8 \
      --run_dir=runs/yarn --export_dir=runs/yarn/hf

`longjax-train METHOD --help` lists the parameters of the method, then those of the recipe, the loop and the mesh. A
method without training is only evaluated. The same command resumes an interrupted run.
"""

import functools
import sys
from collections.abc import Callable

import jax
from absl import flags as absl_flags

from longjax import made_by_0_1
from longjax.cli import flags, options
from longjax.cli.main import HELP, fail, start
from longjax.cli.names import did_you_mean
from longjax.locks import locked
from longjax.methods import METHODS, Method, method_identity
from longjax.progress import LineProgress, no_progress
from longjax.sharding import distributed
from longjax.study import runner
from longjax.study.arms import method_arm
from longjax.study.settings_file import write_or_check_settings
from longjax.study.workspace import Workspace


def main(argv: list[str] | None = None) -> None:
    """The command longjax-train: the first argument is the method."""
    program, *words = sys.argv if argv is None else argv
    name = words[0] if words else ""
    if name in HELP:
        print(f"{(__doc__ or '').strip()}\n\nMethods: {', '.join(METHODS)}.")
    elif name.startswith("-") or not name:
        fail("the first argument is a method, as in longjax-train yarn --factor=8; --help lists all")
    elif name not in METHODS:
        fail(f"{name} is not a method{did_you_mean(name, METHODS)}")
    else:
        experiment(METHODS[name], argv=[program, *words[1:]], doc=METHODS[name].__doc__)


def experiment(
    make: Callable[..., Method], values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None,
    doc: str | None = None,
) -> None:  # fmt: skip
    """Runs one method from the base to its records: the command `python -m experiments.<method>`.

    Args:
      make: one of METHODS, or a method of your own; each of its parameters becomes a flag.
      values: where the flags are defined.
      argv: the command line; None: that of this process.
      doc: see `start`.

    """
    method, parse_options = flags.define(make, values), options.define(values)

    def run() -> None:
        chosen, workspace, run_config = parse_options()
        name, arm_method = chosen.method(make.__name__, method(workspace.preset.settings.get(make.__name__, {})))
        prepare_workspace(workspace)
        seal_method(workspace, name, arm_method)
        progress = LineProgress(name) if jax.process_index() == 0 else no_progress
        runner.run_arm(workspace, method_arm(workspace.preset, name, arm_method), progress, run_config)

    start(run, values, argv, doc)


def prepare_workspace(workspace: Workspace) -> None:
    """Writes tokens and settings, on the first process. Raises ValueError if the folder holds another study."""
    if jax.process_index() == 0:
        with locked(workspace.folder, "--run_dir", wait=True):  # another method may begin in it
            workspace.prepare()
            write_or_check_settings(
                workspace.seed_folder / "settings.json", workspace.settings(), made_by_0_1.study_settings
            )
    distributed.barrier("workspace prepared")


def seal_method(workspace: Workspace, name: str, method: Method) -> None:
    """Writes method.json, on the first process. Raises ValueError if the folder holds another method."""
    if jax.process_index() == 0:
        identity = method_identity(method)
        older = functools.partial(made_by_0_1.method_file, method=method, identity=identity)
        write_or_check_settings(workspace.method_folder(name) / "method.json", {"method": identity}, older)
