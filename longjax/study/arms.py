"""The arms of a study: what is compared, each with a name, a recipe and the tests it is put to."""

import dataclasses

from longjax.methods import METHODS, Method, ds_bf16
from longjax.study.config import StudyConfig, Variant
from longjax.training.train_step import Recipe


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing that is compared.

    Attributes:
      name: in folders and tables.
      method: that is evaluated.
      recipe: of its training, if it is trained.
      tests: names of those that it is put to.
      few: the same for the last weights, where averaged ones are put to `tests`.
      taught: the method in training, where it differs; None: it does not.

    """

    name: str
    method: Method
    recipe: Recipe
    tests: tuple[str, ...]
    raw_weight_tests: tuple[str, ...] = ()
    train_method: Method | None = None

    @property
    def trained(self) -> bool:
        return self.method.trained


def method_arm(preset: StudyConfig, name: str, method: Method | None = None) -> Arm:
    """-> the arm of a method, by default with the preset's parameters: all tests, and its own."""
    method = METHODS[name](**preset.settings.get(name, {})) if method is None else method
    others = {test for who, tests in preset.method_tests.items() if who != name for test in tests}
    return Arm(
        name, method, preset.extend, tuple(test for test in preset.tests if test not in others), preset.raw_weight_tests
    )


def variant(preset: StudyConfig, name: str, what: Variant) -> Arm:
    method = METHODS[what.method](**{**preset.settings.get(what.method, {}), **what.settings})
    taught = ds_bf16(method) if what.tables == "ds_bf16" else None
    recipe = dataclasses.replace(preset.extend, **what.recipe)
    return Arm(name, method, recipe, preset.raw_weight_tests if what.tests is None else what.tests, train_method=taught)


def variants(preset: StudyConfig) -> list[Arm]:
    return [variant(preset, name, what) for name, what in preset.variants.items()]
