"""What every experiment can be told: flags from the fields of a few dataclasses."""

import dataclasses
import os
import re
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
from absl import flags as absl_flags

from longjax import sharding
from longjax.attention.backends import Backend, backend_by_name
from longjax.cli import flags
from longjax.cli.names import integers, preset_of
from longjax.methods import Method, ds_bf16, identified, with_lora
from longjax.sharding.xla_flags import DETERMINISTIC, GPU_OVERLAP, TPU_OVERLAP
from longjax.study.config import StudyConfig
from longjax.study.runner import RunConfig
from longjax.study.workspace import Workspace, open_workspace
from longjax.training.remat import Remat
from longjax.training.train_step import Recipe
from longjax.training.trainer import LoopConfig

absl_flags.disclaim_key_flags()  # --help lists them under the script that asks for them


@dataclasses.dataclass(frozen=True)
class ExperimentOptions:
    """What every experiment can be told, beside the recipe and the loop."""

    preset: str = "mini"
    run_dir: str = "runs/mini"
    text_dir: str | None = None
    base_dir: str | None = None  # a checkpoint with the base: Hugging Face's, Meta's, or converted
    adapter: str | None = None  # a folder with PEFT adapters or LongLoRA's release, on top of the base
    plan_dir: str | None = None  # rows that tools.prepare_data has planned, instead of --text_dir
    length: int | None = None  # tokens of a row; None: the preset's
    lengths: str | None = None  # to evaluate at, joined by commas; None: the preset's
    from_scratch: bool = False  # pretrain the base, even if the preset has one
    base_steps: int | None = None  # of the pretraining; None: the preset's
    base_rows: int | None = None
    position_tables: Literal["float32", "ds_bf16"] = "float32"  # ds_bf16: as DeepSpeed rounds them, see that method
    trainable: str | None = None  # train only parameters whose path has this regular expression in it
    lora_rank: int | None = None  # train adapters of this rank, and the method's own parameters, only
    lora_alpha: float = 16.0
    remat: Remat | None = None  # what the backward pass computes again, from everything (full) to nothing (none)
    attention: Backend | None = None  # back end: the machine's fastest kernels, tiles by XLA, or all scores at once
    dtype: Literal["bfloat16", "float32"] | None = None  # of activations; None: the preset's

    def workspace(self, recipe: Recipe) -> Workspace:
        """-> the folder with the preset as the flags change it."""
        preset = self.changed(preset_of(self.preset), recipe)
        base_dir = self.base_dir or (None if self.from_scratch else preset.base_dir)
        return open_workspace(self.run_dir, preset, self.text_dir, base_dir, self.adapter, self.plan_dir)

    def changed(self, preset: StudyConfig, recipe: Recipe) -> StudyConfig:
        model = dataclasses.replace(preset.model, dtype=self.dtype or preset.model.dtype)
        return dataclasses.replace(
            preset, model=model, base=preset.base and self.base(preset.base, recipe.seed), extend=recipe,
            extended=self.length or preset.extended, remat=self.remat or preset.remat,
            softmax=backend_by_name(self.attention) if self.attention else preset.attention,
            lengths=integers(self.lengths, "lengths") or preset.lengths,
        )  # fmt: skip

    def base(self, recipe: Recipe, seed: int) -> Recipe:
        """-> how the base is pretrained."""
        return dataclasses.replace(
            recipe, steps=self.base_steps or recipe.steps, batch_size=self.base_rows or recipe.batch_size, seed=seed
        )

    def method(self, name: str, method: Method) -> tuple[str, Method]:
        """-> the method as these flags change it, and its name in folders and tables."""
        if self.position_tables == "ds_bf16":
            name, method = f"{name}_ds_bf16", ds_bf16(method)
        if self.lora_rank:
            name, method = f"{name}_lora{self.lora_rank}", with_lora(method, self.lora_rank, self.lora_alpha)
        if self.trainable:
            method = trained_where(method, self.trainable)
        return name, method


@dataclasses.dataclass(frozen=True)
class PathPattern:
    """Parameters whose path (names joined by "/") has the pattern in it: a `Method.trainable`."""

    pattern: str

    def __post_init__(self):
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"--trainable={self.pattern} is no regular expression: {error}") from error

    def __call__(self, path: str) -> bool:
        return re.search(self.pattern, path) is not None


@identified
def trained_where(method: Method, trainable: str) -> Method:
    """The method with only those parameters trained whose path matches."""
    return dataclasses.replace(method, trainable=PathPattern(trainable))


@dataclasses.dataclass(frozen=True)
class MeshOptions:
    """Over which devices the work is spread. On several hosts, each runs the same command."""

    mesh_data: int = 1  # the batch is split over so many devices, each with a copy of the weights
    mesh_fsdp: int = 1  # batch and weights
    mesh_seq: int = 1  # the sequence
    mesh_model: int = 1  # heads, feed-forward and vocabulary
    deterministic: bool = False  # on GPUs: the same bits every time, so that a kill leaves no trace in the result
    distributed: bool = False  # several hosts, which find each other by themselves (TPU pods, Slurm)
    coordinator: str | None = None  # host:port of the first of them, where they do not
    processes: int | None = None  # so many hosts
    process: int | None = None  # this one's number, from 0

    def start(self) -> None:
        """Before anything else of JAX is used."""
        given = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = (
            f"{GPU_OVERLAP} {DETERMINISTIC if self.deterministic else ''} {given}"  # the last one counts
        )
        os.environ.setdefault("LIBTPU_INIT_ARGS", TPU_OVERLAP)
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.94")  # of a GPU; jax alone would take 0.75
        if not (self.distributed or self.coordinator):
            return
        try:
            jax.distributed.initialize(self.coordinator, self.processes, self.process)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"--coordinator={self.coordinator}: the hosts did not find each other: {error}") from error

    def mesh(self) -> jax.sharding.Mesh | None:
        """-> None if nothing is split."""
        sizes = (self.mesh_data, self.mesh_fsdp, self.mesh_seq, self.mesh_model)
        return None if sizes == (1, 1, 1, 1) else sharding.make_mesh(*sizes)


@dataclasses.dataclass(frozen=True)
class InitAndExportOptions:
    """Where a training begins, beside the base, and what is made of its result."""

    init_from: str | None = None  # folder of an earlier training (RUN_DIR/methods/NAME): begin with its weights
    init_opt_state: bool = False  # and with its optimiser's moments
    weights: Literal["ema", "raw"] = "ema"  # evaluate and export the average of the weights, or the last ones
    export_dir: str | None = None  # write the result as a Hugging Face directory


class Options(NamedTuple):
    """All that the command line says."""

    job: ExperimentOptions
    space: Workspace
    at: RunConfig


def define(values: absl_flags.FlagValues = absl_flags.FLAGS) -> Callable[[], Options]:
    """Defines the flags that all experiments have; what it returns is called inside main."""
    job, recipe = flags.define(ExperimentOptions, flag_values=values), flags.define(Recipe, flag_values=values)
    loop, ends = flags.define(LoopConfig, flag_values=values), flags.define(InitAndExportOptions, flag_values=values)
    machine = flags.define(MeshOptions, flag_values=values)

    def asked() -> Options:
        machine().start()
        end, chosen = ends(), job()
        at = RunConfig(
            machine().mesh(), loop(), end.init_from, end.init_opt_state, end.weights == "ema", end.export_dir
        )
        return Options(chosen, chosen.workspace(recipe(vars(preset_of(chosen.preset).extend))), at)

    return asked
