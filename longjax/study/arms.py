"""The arms of a study: what it compares, each with a name, a recipe and its tests."""

import dataclasses

from longjax.methods import METHODS, Method, ds_bf16
from longjax.study.config import StudyConfig, Variant
from longjax.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing that a study compares.

    Attributes:
      name: in folders and tables.
      method: the method that is evaluated.
      recipe: of its training, if it is trained.
      tests: names of its tests.
      raw_weight_tests: names of the tests of the last weights, where `tests` are of averaged ones.
      train_method: the method in training; None: `method`.
      length: tokens of its training rows; None: the study's extended length.
      on: the trained arm whose weights a frozen method is evaluated on; None: the base's.

    """

    name: str
    method: Method
    recipe: Recipe
    tests: tuple[str, ...]
    raw_weight_tests: tuple[str, ...] = ()
    train_method: Method | None = None
    length: int | None = None
    on: "Arm | None" = None

    @property
    def trained(self) -> bool:
        """Whether the method has a training."""
        return self.method.trained


def method_arm(preset: StudyConfig, name: str, method: Method | None = None) -> Arm:
    """Returns the arm of a method, with all tests but those of other methods alone.

    Args:
      preset: of the study.
      name: of the arm; a key of METHODS unless `method` is given.
      method: the method; None: that of this name with the preset's settings.

    """
    method = METHODS[name](**preset.settings.get(name, {})) if method is None else method
    others = {test for owner, tests in preset.method_tests.items() if owner != name for test in tests}
    tests = tuple(test for test in preset.tests if test not in others)
    return Arm(name, method, preset.extend, tests, preset.raw_weight_tests)


def variant_arm(preset: StudyConfig, name: str, variant: Variant) -> Arm:
    """Returns the arm of a variant: its own settings, recipe fields and tests replace the preset's."""
    method = METHODS[variant.method](**{**preset.settings.get(variant.method, {}), **variant.settings})
    train_method = ds_bf16(method) if variant.tables == "ds_bf16" else None
    recipe = dataclasses.replace(preset.extend, **variant.recipe)
    tests = preset.raw_weight_tests if variant.tests is None else variant.tests
    on = variant_arm(preset, variant.on, preset.variants[variant.on]) if variant.on else None
    return Arm(name, method, recipe, tests, train_method=train_method, length=variant.length, on=on)


def variant_arms(preset: StudyConfig) -> list[Arm]:
    """Returns the arms of all variants of a preset."""
    return [variant_arm(preset, name, variant) for name, variant in preset.variants.items()]
