"""Methods and presets by name, lists of numbers, and suggestions for misspelt names."""

import difflib
import math
from collections.abc import Iterable

from absl import flags as absl_flags

from longjax.cli import flags, renamed_flags
from longjax.methods import METHODS, Method
from longjax.study.config import StudyConfig
from longjax.study.presets import PRESETS

MAX_LENGTH = 2**24  # tokens: float32, in which positions are multiplied by frequencies, holds no more of them exactly


def method_by_name(name: str, settings: str = "") -> Method:
    """Returns a method of METHODS.

    Args:
      name: its name, the value of --method.
      settings: its parameters, joined by spaces: "factor=8 beta_fast=32", the value of --method_config.

    Raises:
      ValueError: the name, a parameter or a value is unknown.

    """
    if name not in METHODS:
        raise ValueError(f"--method={name} is unknown{did_you_mean(name, METHODS)}")
    values = absl_flags.FlagValues()
    make = flags.define(METHODS[name], values)
    try:
        values(renamed_flags.replace(["", *(f"--{setting}" for setting in settings.split())], values))
    except absl_flags.Error as error:
        raise ValueError(f"--method_config={settings}: {error}") from error
    return make()


def integers(words: str | None, flag: str) -> tuple[int, ...]:
    """Returns the numbers of a flag's value, which are joined by commas."""
    try:
        return tuple(map(int, words.split(","))) if words else ()
    except ValueError as error:
        raise ValueError(f"--{flag}={words} must be numbers joined by commas") from error


def lengths(words: str | None) -> tuple[int, ...]:
    """Returns the numbers of --lengths, which are joined by commas. Raises ValueError if a text cannot be as long."""
    numbers = integers(words, "lengths")
    if wrong := [n for n in numbers if not 1 <= n <= MAX_LENGTH]:
        raise ValueError(f"--lengths={words}: {wrong[0]} must be from 1 to {MAX_LENGTH}")
    return numbers


def split_names(text: str) -> list[str]:
    """Returns the names of a flag's value, which are joined by commas."""
    return text.split(",") if text else []


def name_and_number(text: str, between: str, flag: str) -> tuple[str, float]:
    """Returns ("code", 0.2) for "code=0.2"."""
    name, _, digits = text.rpartition(between)
    try:
        number = float(digits)
    except ValueError as error:
        raise ValueError(f"--{flag}: {text!r} must be name{between}number") from error
    if not name or not 0 <= number < math.inf:
        raise ValueError(f"--{flag}: {text!r} must be a name and a finite number that is not negative")
    return name, number


def preset_by_name(name: str) -> StudyConfig:
    """Returns a preset of PRESETS."""
    if name not in PRESETS:
        raise ValueError(f"--preset={name} is unknown{did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ": did you mean x?", or the list of known names if none is close."""
    close = difflib.get_close_matches(word, known, 1)
    return f": did you mean {close[0]}?" if close else f": choose one of {', '.join(known)}"
