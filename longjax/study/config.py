"""The configuration of a study: sizes, recipes, training rows, methods and tests, as one value."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from longjax.attention.core import AttentionBackend
from longjax.config import ModelConfig
from longjax.evals.context import EvalContext
from longjax.evals.requests import Task
from longjax.study.task_examples import TASKS
from longjax.training.recipe import Recipe
from longjax.training.remat import Remat


@dataclasses.dataclass(frozen=True)
class DataStage:
    """A part of a training, and how its rows are mixed (see `longjax.data.recall_rows.RecallMixture`)."""

    until: float = 1.0  # share of the steps at which the stage ends
    passkey: float = 0.0  # share of rows with pass keys
    repeat: float = 0.0  # share of rows with repeated segments
    long: float = 0.5  # share of pass-key rows with a single key; the others hold several short episodes
    filler: float = 0.3  # loss weight of the text around keys and of the task examples' questions
    segment: int | None = None  # maximum number of tokens of a repeated segment; None: one per row
    task_examples: float = 0.0  # share of rows with task examples


class Test(Protocol):
    """A benchmark with its settings."""

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Returns the benchmark's tasks."""
        ...


@dataclasses.dataclass(frozen=True)
class AtLengths:
    """A test at other lengths than the study's.

    Attributes:
      test: the test.
      lengths: in tokens.
      max_examples: maximum number of examples per task; None: the benchmark's number.

    """

    test: Test
    lengths: tuple[int, ...]
    max_examples: int | None = None

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Returns the tasks of the test at these lengths."""
        return self.test.tasks(dataclasses.replace(ctx, lengths=self.lengths, max_examples=self.max_examples))


@dataclasses.dataclass(frozen=True)
class Variant:
    """An arm of a study beside its methods, which answers a single question.

    Attributes:
      method: name of its method.
      settings: parameters of the method that replace the preset's.
      recipe: fields of the recipe for extensions that replace the preset's.
      tables: positions in training; "ds_bf16": rounded as DeepSpeed does. Evaluations always have exact ones.
      tests: names of its tests; None: the preset's `raw_weight_tests`.
      length: tokens of its training rows; None: the preset's `extended`.
      on: name of a trained arm whose weights it is evaluated on; None: the base's, or its own.

    """

    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tables: Literal["float32", "ds_bf16"] = "float32"
    tests: tuple[str, ...] | None = None
    length: int | None = None
    on: str | None = None


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """The configuration of one study. The command line can replace some of its fields.

    Attributes:
      model: the base; its trained_len is the short context. A base from --base_dir replaces it.
      extended: length that methods are trained at, in tokens.
      base: recipe of the base's pretraining; None: the base comes from --base_dir.
      extend: the one recipe for all methods.
      base_stages, extend_stages: the rows of the two trainings.
      lengths: lengths of the tests; the last one is beyond the extension.
      methods: names of the study's methods.
      settings: parameters of methods at this size, by name, where they are not the defaults.
      tests: the tests of all methods, by name.
      raw_weight_tests: names of the tests of variants, and of last weights beside averaged ones.
      method_tests: names of tests that are only for one method, by the method's name.
      variants: further arms, by name.
      seeds: number of repetitions, each with a base, an order of rows and extensions of its own; the tests' requests
        are the same for all.
      task_examples: tokens of task examples to train on, for the base and for extensions.
      task_example_tasks: the tasks that they are examples of.
      characters: maximum number of characters of text.
      batch_tokens: tokens per batch of the tests.
      attention: attention back end; None: the fastest one of the machine.
      remat: what the backward pass recomputes, a key of `longjax.training.remat.REMAT`.
      base_dir: a base that ships with the package; None: there is none.
      workers: processes that run methods side by side, in all or on each GPU.
      further: a base whose RoPE is scaled already is extended from all tokens that it reads now.

    """

    model: ModelConfig
    extended: int
    base: Recipe | None
    extend: Recipe
    base_stages: tuple[DataStage, ...]
    extend_stages: tuple[DataStage, ...]
    lengths: tuple[int, ...]
    methods: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    tests: Mapping[str, Test]
    raw_weight_tests: tuple[str, ...] = ()
    method_tests: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, Variant] = dataclasses.field(default_factory=dict)
    seeds: int = 1
    task_examples: tuple[int, int] = (0, 0)
    task_example_tasks: tuple[str, ...] = TASKS
    characters: int = 8_000_000
    batch_tokens: int = 16_384
    attention: AttentionBackend | None = None
    remat: Remat = "full"
    base_dir: str | None = None
    workers: int = 1
    further: bool = False
