"""Options that commands share, as dataclasses whose fields become flags."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
from absl import flags as absl_flags

from longjax import sharding
from longjax.attention.backends import Backend, backend_by_name
from longjax.cli import flags
from longjax.cli.names import lengths, preset_by_name
from longjax.methods import Method, ds_bf16, identified, with_lora
from longjax.ranges import POSITIVE, check_memory, check_range
from longjax.sharding.xla_flags import DETERMINISTIC, GPU_OVERLAP, TPU_OVERLAP
from longjax.study.config import StudyConfig
from longjax.study.runner import RunConfig
from longjax.study.workspace import Workspace, open_workspace
from longjax.training.recipe import Recipe
from longjax.training.remat import Remat
from longjax.training.trainer import LoopConfig


@dataclasses.dataclass(frozen=True)
class ExperimentOptions:
    """Options of an experiment beside the recipe, the training loop and the mesh."""

    preset: str = "mini"  # sizes, data, recipe and tests to start from; the other flags change it
    run_dir: str = "runs/mini"  # directory of the run: tokens, checkpoints, metrics, records
    text_dir: str | None = None  # directory with text to train and evaluate on; None: the installed Python packages
    base_dir: str | None = None  # checkpoint with the base: Hugging Face, Meta, or converted; None: the preset's
    adapter: str | None = None  # directory with PEFT adapters or LongLoRA's release, merged into the base
    plan_dir: str | None = None  # directory of rows that longjax-prepare-data has packed, instead of --text_dir
    length: int | None = None  # tokens of a training row, the extended context; None: the preset's
    lengths: str | None = None  # lengths to evaluate at, in tokens, joined by commas; None: the preset's
    from_scratch: bool = False  # pretrain the base, even if the preset has one
    base_steps: int | None = None  # updates of the pretraining; None: the preset's
    base_batch_size: int | None = None  # sequences of an update of the pretraining; None: the preset's
    position_tables: Literal["float32", "ds_bf16"] = "float32"  # ds_bf16: rounded to bfloat16 as DeepSpeed rounds them
    trainable: str | None = None  # train only parameters whose path matches this regular expression
    lora_rank: int | None = None  # train only adapters of this rank and the method's own parameters
    lora_alpha: float = 16.0  # adapters are scaled by alpha / rank
    remat: Remat | None = None  # what the backward pass recomputes, from everything (full) to nothing (none)
    attention: Backend | None = None  # attention back end; None: the fastest kernels of this machine
    dtype: Literal["bfloat16", "float32"] | None = None  # of activations; None: the preset's

    def __post_init__(self):
        check_range(self, ("length", "base_steps", "base_batch_size", "lora_rank"), 1, 2**31)
        check_range(self, ("lora_alpha",), POSITIVE)

    def workspace(self, preset: StudyConfig, recipe: Recipe) -> Workspace:
        """Returns the run's workspace, with the preset as the flags change it; a derived one has no weights yet."""
        preset = self.changed(preset, recipe)
        check_batch("batch_size", recipe.batch_size, preset.extended)
        if preset.base:
            check_batch("base_batch_size", preset.base.batch_size, preset.model.trained_len)
        base_dir = self.base_dir or (None if self.from_scratch else preset.base_dir)
        make = Workspace if preset.further else open_workspace
        return make(pathlib.Path(self.run_dir), preset, self.text_dir, base_dir, self.adapter, self.plan_dir)

    def changed(self, preset: StudyConfig, recipe: Recipe) -> StudyConfig:
        """Returns the preset as the flags change it."""
        model = dataclasses.replace(preset.model, dtype=self.dtype or preset.model.dtype)
        return dataclasses.replace(
            preset, model=model, base=preset.base and self.base(preset.base, recipe.seed), extend=recipe,
            extended=self.length or preset.extended, remat=self.remat or preset.remat,
            attention=backend_by_name(self.attention) if self.attention else preset.attention,
            lengths=lengths(self.lengths) or preset.lengths,
        )  # fmt: skip

    def base(self, recipe: Recipe, seed: int) -> Recipe:
        """Returns the recipe of the pretraining."""
        steps, batch_size = self.base_steps or recipe.steps, self.base_batch_size or recipe.batch_size
        return dataclasses.replace(recipe, steps=steps, batch_size=batch_size, seed=seed)

    def method(self, name: str, method: Method) -> tuple[str, Method]:
        """Returns the method's name in folders and tables, and the method as the flags change it."""
        if self.position_tables == "ds_bf16":
            name, method = f"{name}_ds_bf16", ds_bf16(method)
        if self.lora_rank:
            name, method = f"{name}_lora{self.lora_rank}", with_lora(method, self.lora_rank, self.lora_alpha)
        if self.trainable:
            method = trained_where(method, self.trainable)
        return name, method


def check_batch(flag: str, rows: int, length: int) -> None:
    """Raises ValueError if a batch is larger than memory: a token, target, position and weight for each place."""
    check_memory(f"--{flag}={rows}: a batch of rows of {length} tokens", 4 * 4 * rows * length)


@dataclasses.dataclass(frozen=True)
class PathPattern:
    """A `Method.trainable`: selects parameters by a regular expression, searched in paths like "layers/attention/q"."""

    pattern: str

    def __post_init__(self):
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"--trainable={self.pattern} is not a regular expression: {error}") from error

    def __call__(self, path: str) -> bool:
        return re.search(self.pattern, path) is not None


@identified
def trained_where(method: Method, trainable: str) -> Method:
    """Returns the method with only those parameters trained whose path matches the regular expression."""
    return dataclasses.replace(method, trainable=PathPattern(trainable))


@dataclasses.dataclass(frozen=True)
class MeshOptions:
    """Options that spread the work over devices. On several hosts, each runs the same command."""

    mesh_data: int = 1  # devices that split the batch, each with a copy of the weights
    mesh_fsdp: int = 1  # devices that split batch and weights
    mesh_seq: int = 1  # devices that split the sequence
    mesh_model: int = 1  # devices that split heads, feed-forward and vocabulary
    deterministic: bool = False  # bit-identical results from run to run on GPUs, so that resuming changes nothing
    distributed: bool = False  # multi-host run with automatic discovery (TPU pods, Slurm)
    coordinator: str | None = None  # host:port of the first process, where there is no automatic discovery
    processes: int | None = None  # number of processes
    process: int | None = None  # index of this process, from 0

    def __post_init__(self):
        check_range(self, ("mesh_data", "mesh_fsdp", "mesh_seq", "mesh_model", "processes"), 1, 2**31)
        check_range(self, ("process",), 0, 2**31)

    def start(self) -> None:
        """Sets XLA's flags and connects the hosts. Call it before anything else of JAX is used."""
        inherited = os.environ.get("XLA_FLAGS", "")  # last, so that it takes precedence
        os.environ["XLA_FLAGS"] = f"{GPU_OVERLAP} {DETERMINISTIC if self.deterministic else ''} {inherited}"
        os.environ.setdefault("LIBTPU_INIT_ARGS", TPU_OVERLAP)
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.94")  # of a GPU; jax alone would take 0.75
        if not (self.distributed or self.coordinator):
            return
        try:
            jax.distributed.initialize(self.coordinator, self.processes, self.process)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"--coordinator={self.coordinator}: the processes could not connect: {error}") from error

    def mesh(self) -> jax.sharding.Mesh | None:
        """Returns the mesh; None if nothing is split."""
        sizes = (self.mesh_data, self.mesh_fsdp, self.mesh_seq, self.mesh_model)
        return None if sizes == (1, 1, 1, 1) else sharding.make_mesh(*sizes)


@dataclasses.dataclass(frozen=True)
class InitAndExportOptions:
    """Options for where a training starts and what its result is exported to."""

    init_from: str | None = None  # directory of an earlier training (RUN_DIR/methods/NAME) whose weights to start from
    init_opt_state: bool = False  # start from the optimizer state of --init_from, too
    weights: Literal["ema", "raw"] = "ema"  # weights to evaluate and export: their moving average, or the last ones
    export_dir: str | None = None  # directory to export the result to, in Hugging Face's format


class Options(NamedTuple):
    """What the command line of an experiment has set."""

    experiment: ExperimentOptions
    workspace: Workspace
    run: RunConfig


def named_preset(chosen: ExperimentOptions) -> StudyConfig:
    """Returns the preset of --preset."""
    return preset_by_name(chosen.preset)


def define(
    values: absl_flags.FlagValues = absl_flags.FLAGS,
    preset_of: Callable[[ExperimentOptions], StudyConfig] = named_preset,
) -> Callable[[], Options]:
    """Defines the flags that all experiments share; the function that it returns reads them after parsing.

    Args:
      values: where they are defined.
      preset_of: what the flags start from.

    """
    experiment, recipe = flags.define(ExperimentOptions, values), flags.define(Recipe, values)
    loop, init_export = flags.define(LoopConfig, values), flags.define(InitAndExportOptions, values)
    mesh = flags.define(MeshOptions, values)

    def from_flags() -> Options:
        mesh().start()
        ends, chosen = init_export(), experiment()
        run = RunConfig(
            mesh().mesh(), loop(), ends.init_from, ends.init_opt_state, ends.weights == "ema", ends.export_dir
        )
        preset = preset_of(chosen)
        return Options(chosen, chosen.workspace(preset, recipe(vars(preset.extend))), run)

    return from_flags
