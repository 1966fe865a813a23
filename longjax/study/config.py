"""What a study is: sizes, recipes, rows, methods and tests, as one value."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from longjax.attention.core import AttentionBackend
from longjax.config import ModelConfig
from longjax.evals.context import EvalContext
from longjax.evals.requests import Task
from longjax.study.task_examples import TASKS
from longjax.training.remat import Remat
from longjax.training.train_step import Recipe


@dataclasses.dataclass(frozen=True)
class DataStage:
    """A part of the training, and how its rows are mixed: see recall.Mixture."""

    until: float = 1.0  # share of the steps
    passkey: float = 0.0
    repeat: float = 0.0
    long: float = 0.5
    filler: float = 0.3
    segment: int | None = None
    task_examples: float = 0.0


class Test(Protocol):
    """An evaluator with its settings."""

    def tasks(self, material: EvalContext) -> list[Task]: ...


@dataclasses.dataclass(frozen=True)
class AtLengths:
    """A test at lengths of its own, with at most so many questions a task."""

    test: Test
    lengths: tuple[int, ...]
    max_lengths: int | None = None

    def tasks(self, material: EvalContext) -> list[Task]:
        return self.test.tasks(dataclasses.replace(material, lengths=self.lengths, max_examples=self.max_lengths))


@dataclasses.dataclass(frozen=True)
class Variant:
    """An arm of a study beside its methods, which answers a single question.

    Attributes:
      method: by its name.
      settings: its parameters, where they are not the preset's.
      recipe: fields of the preset's recipe for extensions that differ.
      tables: positions in training; "ds_bf16": as DeepSpeed rounds them. Evaluations always have exact ones.
      tests: what it is put to; None: the preset's few.

    """

    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tables: Literal["float32", "ds_bf16"] = "float32"
    tests: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """One study.

    Attributes:
      model: the base; its trained_len is the short context. With --base_dir that model takes its place.
      extended: the length that methods are trained at.
      base: how the base is pretrained; None: it comes from --base_dir.
      extend: the one recipe for all methods.
      base_stages, extend_stages: the rows of the two trainings.
      characters: of text, at most.
      lengths: to evaluate at; the last is beyond the extension.
      tests: what all methods are put to, by name.
      few: names of the tests of variants, and of last weights beside averaged ones.
      only: names of tests that one method alone is put to, by its name.
      tokens_a_call: of the evaluators.
      methods: those of the study.
      settings: a method's parameters at this size, where they are not its defaults.
      variants: further arms of the study, by name.
      seeds: so many studies, each with its own base, order of data and extensions; all get the same questions.
      drills: tokens of questions with their answers to train on, for base and extension, see drills; of drill_tasks.
      softmax: the attention back end; None: the fastest of the machine.
      remat: what the backward pass computes again instead of keeping it, see launch.REMAT.
      base_dir: a base that comes with us; None: there is none.
      workers: processes of a study that run methods side by side, on a CPU or on each GPU.

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
