"""The command line of every experiment: flags from signatures, one line for a user's mistake."""

import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Iterable
from typing import Literal, NoReturn

import jax
from absl import app
from absl import flags as absl_flags

from longjax import flags, launch, sharding
from longjax.methods import Method, ds_bf16
from longjax.presets import PRESETS, Preset
from longjax.progress import plain
from longjax.train import Recipe
from longjax.workspace import Workspace, open_workspace


@dataclasses.dataclass(frozen=True)
class Job:
    """What every experiment can be told."""

    preset: str = "mini"
    run_dir: str = "runs/mini"
    text_dir: str | None = None
    base_dir: str | None = None  # a Hugging Face directory with the base
    from_scratch: bool = False  # pretrain the base, even if the preset has one
    base_steps: int | None = None  # of the pretraining; None: the preset's
    base_rows: int | None = None
    extend_steps: int | None = None  # of every method's training
    extend_learning_rate: float | None = None
    position_tables: Literal["float32", "ds_bf16"] = "float32"  # ds_bf16: as DeepSpeed rounds them, see that method
    mesh_data: int = 1  # the batch is split over so many devices, each with a copy of the weights
    mesh_fsdp: int = 1  # batch and weights
    mesh_seq: int = 1  # the sequence
    mesh_model: int = 1  # heads, feed-forward and vocabulary
    seed: int = 0

    def mesh(self) -> jax.sharding.Mesh | None:
        """-> None if nothing is split."""
        sizes = (self.mesh_data, self.mesh_fsdp, self.mesh_seq, self.mesh_model)
        return None if sizes == (1, 1, 1, 1) else sharding.make_mesh(*sizes)

    def workspace(self) -> Workspace:
        if self.preset not in PRESETS:
            raise ValueError(f"--preset={self.preset} is unknown{suggestion(self.preset, PRESETS)}")
        preset = self.changed(PRESETS[self.preset])
        base_dir = self.base_dir or (None if self.from_scratch else preset.base_dir)
        return open_workspace(self.run_dir, preset, self.text_dir, base_dir, self.seed)

    def changed(self, preset: Preset) -> Preset:
        """The preset with what the flags say otherwise."""
        extend = altered(preset.extend, steps=self.extend_steps, learning_rate=self.extend_learning_rate)
        base = preset.base and altered(preset.base, steps=self.base_steps, rows=self.base_rows)
        return dataclasses.replace(preset, base=base, extend=extend)


def altered(recipe: Recipe, steps: int | None = None, rows: int | None = None, learning_rate: float | None = None):
    """-> the recipe with what is not None."""
    given = {"steps": steps, "rows": rows, "learning_rate": learning_rate}
    return dataclasses.replace(recipe, **{name: x for name, x in given.items() if x is not None})


def suggestion(word: str, known: Iterable[str]) -> str:
    """-> ": did you mean x?", or the list of what there is."""
    close = difflib.get_close_matches(word, known, 1)
    return f": did you mean {close[0]}?" if close else f": there are {', '.join(known)}"


def start(
    main: Callable[[], None], values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None
) -> None:
    """Parses the flags and runs `main`. A user's mistake ends with one line and exit code 2."""

    def checked(rest):
        if len(rest) > 1:
            fail(f"unknown argument {rest[1]}: flags begin with --")
        try:
            main()
        except ValueError as error:
            fail(str(error))
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


def prepare(space: Workspace) -> None:
    """Tokens and settings, or a clear error if the folder holds another study."""
    space.prepare()
    space.seal(space.folder / "settings.json", space.settings())


def seal_method(space: Workspace, name: str, method: Method) -> None:
    space.seal(space.method_folder(name) / "method.json", {"method": described(method)})


def described(method: Method) -> str:
    """-> its parameters, the same in every process: functions without their addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(method))


def experiment(
    make: Callable[..., Method], values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None
) -> None:
    """The command `python -m experiments.<method>`: from base to records, with a flag for each parameter."""
    method, job = flags.define(make, flag_values=values), flags.define(Job, flag_values=values)

    def main():
        space, mesh, name = job().workspace(), job().mesh(), make.__name__
        chosen = method(space.preset.settings.get(name, {}))
        if job().position_tables == "ds_bf16":
            name, chosen = f"{name}_ds_bf16", ds_bf16(chosen)
        prepare(space)
        seal_method(space, name, chosen)
        launch.run(space, name, chosen, plain(name), mesh)

    start(main, values, argv)
