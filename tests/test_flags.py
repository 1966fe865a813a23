"""Flags come from signatures, have a help text, and are still found by their names in 0.1."""

import ast
import dataclasses
import pathlib
import re
from typing import Literal

import pytest
from absl import flags as absl_flags

from longjax.cli import convert, flags, names, options, plan, prepare_data, renamed_flags, report, study
from longjax.cli.eval_options import EvalOptions
from longjax.evals.benchmarks import BENCHMARKS
from longjax.methods import METHODS
from longjax.study.derived import Goal
from longjax.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Options:
    factor: float = 8.0
    window: int | None = None
    kind: Literal["a", "b"] = "a"
    deep: bool = False
    parts: tuple[str, ...] = ()
    from_: str = ""  # a Python keyword without its underscore


def parse(*arguments, defaults=None):
    values = absl_flags.FlagValues()
    make = flags.define(Options, values)
    values(["program", *arguments])
    return make(defaults or {})


def test_defaults_are_those_of_the_signature():
    assert dataclasses.replace(parse(), parts=()) == Options()


def test_every_kind_of_parameter():
    given = parse("--factor=2", "--window=7", "--kind=b", "--deep", "--parts=x", "--parts=y", "--from=z")
    assert dataclasses.replace(given, parts=tuple(given.parts)) == Options(2.0, 7, "b", True, ("x", "y"), "z")


def test_a_preset_stands_where_the_command_line_has_no_value():
    given = parse("--window=7", defaults={"window": 5, "factor": 3.0})
    assert (given.window, given.factor) == (7, 3.0)


def test_a_typo_gets_a_suggestion():
    with pytest.raises(absl_flags.UnrecognizedFlagError, match="factor"):
        parse("--factr=2")


MADE = {
    "an experiment": (options.define,),
    "study": (
        options.define,
        lambda values: flags.define(study.StudyOptions, values),
        lambda values: flags.define(Goal, values),
    ),
    "evaluate": tuple(
        lambda values, make=make: flags.define(make, values)
        for make in (EvalOptions, options.MeshOptions, *(b.settings for b in BENCHMARKS.values()))
    ),
    "convert": (lambda values: flags.define(convert.ConvertOptions, values),),
    "prepare_data": (lambda values: flags.define(prepare_data.PrepareDataOptions, values),),
    "plan": tuple(lambda values, make=make: flags.define(make, values) for make in (plan.PlanOptions, Recipe)),
    "report": (lambda values: flags.define(report.ReportOptions, values),),
} | {name: (lambda values, make=make: flags.define(make, values),) for name, make in METHODS.items()}


@pytest.mark.parametrize("program", MADE)
def test_every_flag_has_a_help_text(program):
    """A phrase, not the name again. It is the comment behind the parameter."""
    values = absl_flags.FlagValues()
    for define in MADE[program]:
        define(values)
    assert [name for name in values if len(values[name].help.split()) < 2] == []


def renamed(arguments, *makes):
    values = absl_flags.FlagValues()
    for make in makes:
        flags.define(make, values)
    return renamed_flags.replace(["program", *arguments], values)[1:]


def test_names_of_0_1_still_work(capsys):
    old = ["--rows=3", "--micro_rows", "2", "-clip=0.5", "--one_norm", "--nofrom_zero", "--ema=0", "--decay_to=0.2"]
    new = [
        "--batch_size=3", "--micro_batch_size", "2", "--max_grad_norm=0.5", "--joint_clip", "--nowarmup_from_zero",
        "--ema_decay=0", "--min_lr_ratio=0.2",
    ]  # fmt: skip
    assert renamed(old, Recipe) == new
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7
    assert lines[0] == "--rows is now --batch_size; the old name goes with the next release"
    assert renamed(new, Recipe) == new
    assert capsys.readouterr().err == ""


def test_a_flag_keeps_its_name_where_it_is_another(capsys):
    """`longjax-prepare-data select --keep` is a share of documents, and was so in 0.1."""
    assert renamed(["--keep=0.1", "--rows=3"], prepare_data.PrepareDataOptions) == ["--keep=0.1", "--rows=3"]
    assert capsys.readouterr().err == ""


def test_every_renamed_flag_is_a_flag():
    assert set(renamed_flags.RENAMED.values()) - all_flags() == set()


def test_names_of_0_1_in_a_methods_settings(capsys):
    assert names.method_by_name("landmark", "piece=256") == METHODS["landmark"](row_length=256)
    assert "--piece is now --row_length" in capsys.readouterr().err
    assert renamed_flags.command("tokenise") == "tokenize"
    assert renamed_flags.command("pack") == "pack"


def all_flags():
    """-> the names of every command's flags."""
    names = {"help", "helpfull", "helpshort", "verbosity", "no"}  # of all
    for define in (define for program in MADE for define in MADE[program]):
        values = absl_flags.FlagValues()
        define(values)
        names |= set(values)
    return names


def test_messages_name_flags_that_exist():
    """Errors, logs and help texts of the package; a name that ends in _ stands for all flags that begin so."""
    known, unknown = all_flags(), set()
    for path in sorted((pathlib.Path(__file__).parents[1] / "longjax").rglob("*.py")):
        strings = [x.value for x in ast.walk(ast.parse(path.read_text())) if isinstance(x, ast.Constant)]
        for name in re.findall(r"(?<![\w-])--([a-z]\w+)", "\n".join(x for x in strings if isinstance(x, str))):
            exists = name in known or name.removeprefix("no") in known or name.startswith("xla_")
            if not exists and not (name.endswith("_") and any(flag.startswith(name) for flag in known)):
                unknown.add(f"{path.name}: --{name}")
    assert unknown == set()
