"""Compiles the real programs for machines that are not here, and prints the memory and time that they need.

longjax-plan --preset=paper --method=yarn --topology=v5e:16x16 --mesh_fsdp=32 --mesh_seq=8 --remat=attention
longjax-plan --preset=paper --length=65536 --topology=v5p:4x4x8          # finds mesh and remat
longjax-plan --preset=paper --topology=h200:4 --mesh_fsdp=4 --fast       # only whether it fits
longjax-plan --what=decode --batch_size=4 --topology=v5e:2x2 --mesh_model=4

No accelerator and no weights are needed. TPUs (v5e, v5p, v6e) need libtpu (pip install longjax[tpu]), GPUs (h100, h200)
the CUDA plugin (pip install longjax[gpu]); both run on any CPU. Compiling a 7B takes minutes of one core, --fast a
quarter of that. Exit code 1: it does not fit.
"""

import dataclasses
import pathlib
import shlex
import sys

from absl import flags as absl_flags

from longjax import sharding
from longjax.aot import planner, report, topology
from longjax.aot.planner import AotRequest, ProgramKind
from longjax.attention.backends import default_backend
from longjax.cli import flags
from longjax.cli.main import start
from longjax.cli.names import did_you_mean, method_by_name, preset_by_name
from longjax.cli.options import PathPattern
from longjax.config import SHAPES, ModelConfig
from longjax.methods import with_lora
from longjax.methods.method import with_inserted_token
from longjax.model.llama import Llama
from longjax.training.recipe import Recipe
from longjax.training.remat import REMAT, Remat


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """What is planned, beside the recipe."""

    what: ProgramKind = "train"  # program: a training step, prefill of a chunk, or decoding of one token a row
    preset: str = "paper"  # preset whose model, recipe and lengths to take
    model: str | None = None  # llama2_7b, llama2_13b, llama3_8b or tiny; None: the preset's
    method: str = "yarn"  # method, by name
    method_config: str = ""  # parameters of --method, joined by spaces: "factor=8 beta_fast=32"
    length: int | None = None  # tokens of a row; None: the preset's
    topology: str = "v5e:16x16"  # chips: v5e:16x16, v5p:4x4x8, v6e:16x16, h100:8, h200:4 ...
    mesh_data: int | None = None  # chips that split the batch, each with a copy of the weights
    mesh_fsdp: int | None = None  # chips that split batch and weights
    mesh_seq: int | None = None  # chips that split the sequence
    mesh_model: int | None = None  # chips that split heads, feed-forward and vocabulary
    remat: Remat | None = None  # what the backward pass recomputes; None: the preset's
    lora_rank: int | None = None  # train only adapters of this rank and the method's own parameters
    trainable: str | None = None  # train only parameters whose path matches this regular expression
    dtype: str = "bfloat16"  # dtype of activations
    fast: bool = False  # compile without optimization: shows whether it fits, without the time of a step
    out: str | None = None  # DIR/NAME: write DIR/NAME.json, and DIR/PLANS.md with all plans of DIR

    def request(self, recipe: Recipe) -> AotRequest:
        """Returns what the planner is asked to compile."""
        preset, machine = preset_by_name(self.preset), topology.parse_topology(self.topology)
        method = method_by_name(self.method, self.method_config)
        if self.lora_rank:
            method = with_lora(method, self.lora_rank)
        if self.trainable:
            method = dataclasses.replace(method, trainable=PathPattern(self.trainable))
        if self.what == "train" and not method.trained:
            raise ValueError(f"--method={self.method} is not trained: plan it with --what=prefill or --what=decode")
        cfg = with_inserted_token(dataclasses.replace(self.model_config(), dtype=self.dtype), method)
        remat = self.remat or preset.remat
        model = Llama(
            cfg,
            method,
            train=self.what == "train",
            backend=default_backend(machine.chip.platform),
            placement=sharding.MeshPlacement(),
            remat_policy=REMAT[remat],
        )
        known = (name for name, shape in SHAPES.items() if shape == self.model_config())
        names, length = (next(known, self.preset), self.method), self.length or preset.extended
        return AotRequest(self.what, names, model, recipe, remat, length, machine, self.mesh_sizes(), self.fast)

    def model_config(self) -> ModelConfig:
        """Returns the configuration of --model; without it, the preset's."""
        if self.model is None:
            return preset_by_name(self.preset).model
        if self.model not in SHAPES:
            raise ValueError(f"--model={self.model} is unknown{did_you_mean(self.model, SHAPES)}")
        return SHAPES[self.model]

    def mesh_sizes(self) -> tuple[int, int, int, int]:
        """Returns the sizes of the mesh's axes; 1 where no flag is given."""
        return self.mesh_data or 1, self.mesh_fsdp or 1, self.mesh_seq or 1, self.mesh_model or 1

    def searches(self) -> bool:
        """Returns whether the planner chooses mesh and remat: for training steps, if no --mesh_* is given."""
        return self.what == "train" and {self.mesh_data, self.mesh_fsdp, self.mesh_seq, self.mesh_model} == {None}


def main(values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None) -> None:
    """The command longjax-plan."""
    options, recipe = flags.define(PlanOptions, values), flags.define(Recipe, values)

    def run() -> None:
        topology.prepare_libtpu()
        chosen = options()
        request = chosen.request(recipe(vars(preset_by_name(chosen.preset).extend)))
        words = [word for word in (argv or sys.argv)[1:] if not word.startswith("--out")]
        command = shlex.join(["longjax-plan", *words])
        plan = planner.best_plan(request, command) if chosen.searches() else planner.plan(request, command)
        print(plan.text())
        if chosen.out:
            report.save_plan_files(plan, pathlib.Path(chosen.out).parent, pathlib.Path(chosen.out).name)
        if not plan.fits:
            sys.exit(1)

    start(run, values, argv, __doc__)
