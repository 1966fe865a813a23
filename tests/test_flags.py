import dataclasses
from typing import Literal

import pytest
from absl import flags as absl_flags

from longjax.cli import flags


@dataclasses.dataclass(frozen=True)
class Options:
    factor: float = 8.0
    window: int | None = None
    kind: Literal["a", "b"] = "a"
    deep: bool = False


def parse(*arguments):
    values = absl_flags.FlagValues()
    make = flags.define(Options, flag_values=values)
    values(["program", *arguments])
    return make()


def test_defaults_are_those_of_the_signature():
    assert parse() == Options()


def test_every_kind_of_parameter():
    assert parse("--factor=2", "--window=7", "--kind=b", "--deep") == Options(2.0, 7, "b", True)


def test_a_typo_gets_a_suggestion():
    with pytest.raises(absl_flags.UnrecognizedFlagError, match="factor"):
        parse("--factr=2")
