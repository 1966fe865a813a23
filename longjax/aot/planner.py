"""From a question - what, of which model, on which chips - to a plan."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import jax

from longjax import sharding
from longjax.aot import compile, hlo, inference_programs, roofline, search
from longjax.aot.compile import MemoryFit, Program
from longjax.aot.events import events, walk
from longjax.aot.report import BILLION, AotPlan, kernels, sums
from longjax.aot.search import MeshChoice
from longjax.aot.topology import Topology
from longjax.attention.kernels.splash import Splash
from longjax.inference import decode
from longjax.model.llama import Llama
from longjax.training.flops import train_flops, visible_keys
from longjax.training.recipe import Recipe
from longjax.training.remat import REMAT, Remat

ProgramKind = Literal["train", "prefill", "decode"]


class AotRequest(NamedTuple):
    """What is to be compiled; `model` has softmax and placement, its `keep` is that of `remat`.

    Attributes:
      name: of the model and of the method.
      sizes: of the mesh: data, fsdp, seq, model.
      fast: only whether it fits.

    """

    program: ProgramKind
    name: tuple[str, str]
    model: Llama
    recipe: Recipe
    remat: Remat
    length: int
    topology: Topology
    sizes: tuple[int, int, int, int]
    fast: bool

    def chosen(self, choice: MeshChoice) -> "AotRequest":
        return self._replace(
            model=dataclasses.replace(self.model, remat_policy=REMAT[choice.remat]), remat=choice.remat,
            recipe=dataclasses.replace(self.recipe, micro_batch_size=choice.micro_rows),
            sizes=(1, choice.fsdp, choice.seq, 1),
        )  # fmt: skip

    def flags(self) -> str:
        mesh = [
            f"--mesh_{axis}={n}" for axis, n in zip(("data", "fsdp", "seq", "model"), self.sizes, strict=True) if n > 1
        ]
        rows = [
            f"--batch_size={self.recipe.batch_size}",
            *[f"--micro_batch_size={self.recipe.micro_batch_size}"] * bool(self.recipe.micro_batch_size),
        ]
        return " ".join([*rows, *mesh, f"--remat={self.remat}"])


def plan(wish: AotRequest, command: str) -> AotPlan:
    """-> what is known of this. Raises ValueError if the model cannot be split over this mesh."""
    mesh, cfg = wish.topology.mesh(*wish.sizes), wish.model.cfg
    micro = wish.recipe.micro_batch_size or wish.recipe.batch_size
    sharding.check_divisible(cfg, micro, wish.length if wish.program == "train" else mesh.shape["seq"], mesh)
    with jax.set_mesh(mesh):
        program = programs(wish, mesh)
        fit = compile.compiled(program, wish.topology.chip.platform, wish.fast)
    hbm = {name: float(bytes_) for name, bytes_ in program.before.items() if name not in ("gradients", "saved", "working")}
    hbm |= {"held": float(fit.held), "temporary": float(fit.temporary)} if fit.text else {}
    hbm |= {"peak": float(fit.peak), "limit": wish.topology.chip.hbm}
    module = hlo.parse(fit.text) if fit.text else {}
    schedule = events(module) if module else ()
    step = estimate_step(wish, module, mesh) if module and not wish.fast else None
    return AotPlan(
        wish.program,
        wish.topology.name,
        command,
        setting(wish),
        fits(fit, hbm["limit"]),
        hbm,
        flops(wish),
        kernels(walk(schedule)),
        sums(walk(schedule)),
        step,
        "" if fits(fit, hbm["limit"]) else does_not_fit_advice(wish),
        versions(),
    )


def versions() -> dict[str, str]:
    return {
        name: importlib.metadata.version(name) for name in ("jax", "libtpu", "jax-cuda13-pjrt") if is_installed(name)
    }


def is_installed(package: str) -> bool:
    return any(importlib.metadata.distributions(name=package))


def programs(wish: AotRequest, mesh: jax.sharding.Mesh) -> Program:
    if wish.program == "train":
        return compile.training_program(wish.model, wish.recipe, wish.length, mesh)
    asked = (wish.model, wish.recipe.batch_size, wish.length, mesh)
    return (
        inference_programs.prefill_program(*asked)
        if wish.program == "prefill"
        else inference_programs.decode_program(*asked, wish.topology.chip.platform)
    )


def fits(fit: MemoryFit, limit: float) -> bool:
    """TPUs' compiler refuses what does not fit, GPUs' does not."""
    return fit.text != "" and fit.peak <= limit


def setting(wish: AotRequest) -> dict[str, Any]:
    axes = zip(("data", "fsdp", "seq", "model"), wish.sizes, strict=True)
    micro = {"micro_rows": wish.recipe.micro_batch_size} if wish.recipe.micro_batch_size else {}
    return {
        "model": wish.name[0], "method": wish.name[1], "rows": wish.recipe.batch_size, "length": wish.length,
        "mesh": " ".join(f"{axis} {n}" for axis, n in axes if n > 1) or "-",
        "remat": wish.remat if wish.program == "train" else "-", **micro,
    }  # fmt: skip


def flops(wish: AotRequest) -> dict[str, float]:
    if wish.program != "train":
        return {}
    tokens = wish.recipe.batch_size * wish.length
    return train_flops(wish.model.cfg, wish.model.method, wish.length, tokens)._asdict()


def estimate_step(wish: AotRequest, module: hlo.Module, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """-> seconds and what follows from them."""
    clock = roofline.StepClock(wish.topology, mesh, module, visible_pairs_of(wish), wish.model.cfg.head_dim)
    estimate = clock.estimate()
    tokens = tokens_of_a_run(wish, mesh)
    found: dict[str, Any] = {"seconds": estimate.seconds, "where": estimate.where, "places": estimate.places}
    found["tokens_per_second_per_chip"] = tokens / estimate.seconds / wish.topology.chips
    if wish.program == "train":
        peak = wish.topology.chips * wish.topology.chip.flops
        found["mfu"] = flops(wish)["useful"] / peak / estimate.seconds
        found["chip_hours_of_1B_tokens"] = BILLION / tokens * estimate.seconds * wish.topology.chips / 3600
    return found


def tokens_of_a_run(wish: AotRequest, mesh: jax.sharding.Mesh) -> int:
    """-> of one step, of one chunk of all prompts, or one of each row."""
    with jax.set_mesh(mesh):
        chunk = decode.prefill_chunk(wish.recipe.batch_size, wish.length)
    return wish.recipe.batch_size * {"train": wish.length, "prefill": chunk, "decode": 1}[wish.program]


def visible_pairs_of(wish: AotRequest) -> float:
    """-> queries times the keys that they see, of one layer, micro-batch and device, over its heads; on TPUs with what
    the tiles at the edge compute in vain, half a tile for each query.
    """
    cfg, (data, fsdp, seq, model) = wish.model.cfg, wish.sizes
    seen = visible_keys(wish.model.attention(wish.length), cfg.heads, wish.length)
    seen += Splash().block / 2 if wish.topology.chip.platform == "tpu" else 0  # cuDNN's are in its measured rate
    rows = (wish.recipe.micro_batch_size or wish.recipe.batch_size) / (data * fsdp)
    return rows * wish.length * seen * cfg.heads / (seq * model)


def does_not_fit_advice(wish: AotRequest) -> str:
    """-> what to change."""
    return (
        search.choice_line(candidate_bytes(wish, REMAT), wish.topology.chip.hbm) if wish.program == "train" else SERVING
    )


SERVING = "split the heads with --mesh_model, the cache with --mesh_seq, or take a smaller --batch_size"


def candidate_bytes(wish: AotRequest, remats: Iterable[Remat]) -> dict[MeshChoice, int]:
    """-> bytes of a device for all meshes of so many chips, by the estimate that needs no compiler."""
    found = {}
    for choice in search.choices(wish.model.cfg, wish.recipe.batch_size, wish.topology.chips, remats):
        asked = wish.chosen(choice)
        mesh = asked.topology.mesh(*asked.sizes)
        with jax.set_mesh(mesh):
            found[choice] = sum(programs(asked, mesh).before.values())
    return found


def best_plan(wish: AotRequest, command: str) -> AotPlan:
    """-> the fastest of the few that seem best and fit. Raises ValueError if nothing does."""
    bytes_of = candidate_bytes(wish, REMAT)
    asked = search.best_choice(bytes_of, wish.topology.chip.hbm)
    if not asked:
        raise ValueError(search.choice_line(bytes_of, wish.topology.chip.hbm))
    plans = [plan(wish.chosen(choice), f"{command} {choice.flags()}") for choice in asked]
    fitting = [p for p in plans if p.fits] or plans
    return min(fitting, key=lambda p: p.step["seconds"] if p.step else math.inf)
