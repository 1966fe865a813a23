"""Methods and presets by name, lists of numbers, and suggestions for misspelt ones."""

import difflib
from collections.abc import Iterable

from absl import flags as absl_flags

from longjax.cli import flags
from longjax.methods import METHODS, Method
from longjax.study.config import StudyConfig
from longjax.study.presets import PRESETS


def method_by_name(name: str, settings: str = "") -> Method:
    """-> a method by its name; `settings` are its parameters with spaces between them: "factor=8 beta_fast=32"."""
    if name not in METHODS:
        raise ValueError(f"--method={name} is unknown{did_you_mean(name, METHODS)}")
    values = absl_flags.FlagValues()
    made = flags.define(METHODS[name], flag_values=values)
    try:
        values(["", *(f"--{setting}" for setting in settings.split())])
    except absl_flags.Error as error:
        raise ValueError(f"--method_config={settings}: {error}") from error
    return made()


def integers(words: str | None, flag: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, words.split(","))) if words else ()
    except ValueError as error:
        raise ValueError(f"--{flag}={words} must be numbers joined by commas") from error


def preset_of(name: str) -> StudyConfig:
    if name not in PRESETS:
        raise ValueError(f"--preset={name} is unknown{did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """-> ": did you mean x?", or the list of what there is."""
    close = difflib.get_close_matches(word, known, 1)
    return f": did you mean {close[0]}?" if close else f": there are {', '.join(known)}"
