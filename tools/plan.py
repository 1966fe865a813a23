"""Compiles the real programs for machines that are not here, and says what they need. No accelerator, no weights.

python -m tools.plan --preset=paper --method=yarn --topology=v5e:16x16 --mesh_fsdp=32 --mesh_seq=8 --remat=attention
python -m tools.plan --preset=paper --length=65536 --topology=v5p:4x4x8          # it finds mesh and remat
python -m tools.plan --preset=paper --topology=h200:4 --mesh_fsdp=4 --fast       # only whether it fits
python -m tools.plan --what=decode --rows=4 --topology=v5e:2x2 --mesh_model=4

TPUs (v5e, v5p, v6e) need libtpu (pip install longjax[tpu]), GPUs (h100, h200) the CUDA plugin (longjax[gpu]); both
run on any CPU. A compilation of 7B takes minutes of one core, --fast a quarter of that.
"""

import dataclasses
import pathlib
import shlex
import sys

from longjax import sharding
from longjax.aot import planner, report, topology
from longjax.aot.planner import AotRequest, ProgramKind
from longjax.attention.backends import default_backend
from longjax.cli import flags
from longjax.cli import main as cli
from longjax.cli.names import did_you_mean, method_by_name, preset_of
from longjax.cli.options import PathPattern
from longjax.config import SHAPES
from longjax.methods import with_lora
from longjax.methods.method import with_inserted_token
from longjax.model.llama import Llama
from longjax.training.remat import REMAT, Remat
from longjax.training.train_step import Recipe


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is planned, beside the recipe."""

    what: ProgramKind = "train"  # a training step; a chunk of a prompt; a token of every row
    preset: str = "paper"
    model: str | None = None  # llama2_7b, llama2_13b, llama3_8b, tiny; None: the preset's
    method: str = "yarn"  # by name
    method_config: str = ""  # its parameters, with spaces: "factor=8 beta_fast=32"
    length: int | None = None  # tokens of a row; None: the preset's
    topology: str = "v5e:16x16"  # v5e:16x16, v5p:4x4x8, v6e:16x16, h100:8, h200:4 ...
    mesh_data: int | None = None  # the batch is split over so many chips, each with a copy of the weights
    mesh_fsdp: int | None = None  # batch and weights
    mesh_seq: int | None = None  # the sequence
    mesh_model: int | None = None  # heads, feed-forward and vocabulary
    remat: Remat | None = None  # what the backward pass computes again; None: the preset's
    lora_rank: int | None = None  # train adapters of this rank, and the method's own parameters, only
    trainable: str | None = None  # train only parameters whose path has this regular expression in it
    dtype: str = "bfloat16"  # of activations
    fast: bool = False  # compile without optimising: whether it fits, and no step time
    out: str | None = None  # folder/name: write folder/name.json, and folder/PLANS.md with all plans of that folder

    def wish(self, recipe: Recipe) -> AotRequest:
        preset, machine = preset_of(self.preset), topology.parse(self.topology)
        method = method_by_name(self.method, self.method_config)
        if self.lora_rank:
            method = with_lora(method, self.lora_rank)
        if self.trainable:
            method = dataclasses.replace(method, trainable=PathPattern(self.trainable))
        if self.what == "train" and not method.trained:
            raise ValueError(f"--method={self.method} is not trained: plan it with --what=prefill or --what=decode")
        cfg = with_inserted_token(dataclasses.replace(self.shape(), dtype=self.dtype), method)
        remat = self.remat or preset.remat
        model = Llama(
            cfg,
            method,
            train=self.what == "train",
            backend=default_backend(machine.chip.platform),
            placement=sharding.MeshPlacement(),
            remat_policy=REMAT[remat],
        )
        known = (name for name, shape in SHAPES.items() if shape == self.shape())
        names, length = (next(known, self.preset), self.method), self.length or preset.extended
        return AotRequest(self.what, names, model, recipe, remat, length, machine, self.sizes(), self.fast)

    def shape(self):
        if self.model is None:
            return preset_of(self.preset).model
        if self.model not in SHAPES:
            raise ValueError(f"--model={self.model} is unknown{did_you_mean(self.model, SHAPES)}")
        return SHAPES[self.model]

    def sizes(self) -> tuple[int, int, int, int]:
        return self.mesh_data or 1, self.mesh_fsdp or 1, self.mesh_seq or 1, self.mesh_model or 1

    def is_free(self) -> bool:
        """Whether mesh and remat are to be found."""
        return self.what == "train" and {self.mesh_data, self.mesh_fsdp, self.mesh_seq, self.mesh_model} == {None}


def main() -> None:
    topology.prepare_libtpu()
    asked = ASKED()
    wish = asked.wish(RECIPE(vars(preset_of(asked.preset).extend)))
    given = [arg for arg in sys.argv[1:] if not arg.startswith("--out")]
    command = shlex.join(["python", "-m", "tools.plan", *given])
    plan = planner.best_plan(wish, command) if asked.is_free() else planner.plan(wish, command)
    print(plan.text())
    if asked.out:
        report.save_plan_files(plan, pathlib.Path(asked.out).parent, pathlib.Path(asked.out).name)
    if not plan.fits:
        sys.exit(1)


ASKED, RECIPE = flags.define(Asked), flags.define(Recipe)

if __name__ == "__main__":
    cli.start(main)
