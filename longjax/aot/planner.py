"""Plans a program on chips that are not at hand: compiles it, and estimates its memory and its time."""

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
from longjax.aot.report import BILLION, AotPlan, collective_sums, kernel_counts
from longjax.aot.search import MeshChoice
from longjax.aot.topology import MESH_AXES, Topology
from longjax.attention.kernels.splash import Splash
from longjax.inference import decode
from longjax.model.llama import Llama
from longjax.training.flops import train_flops, visible_keys
from longjax.training.recipe import Recipe
from longjax.training.remat import REMAT, Remat

ProgramKind = Literal["train", "prefill", "decode"]


class AotRequest(NamedTuple):
    """What is to be compiled.

    Attributes:
      program: a training step, a chunk of prompts, or one token of every row.
      name: of the model and of the method.
      model: with back end, placement and the policy of `remat`.
      recipe: of the training; for other programs its batch_size counts alone.
      remat: name of the rematerialization policy.
      length: tokens of a row.
      topology: the chips.
      sizes: of the mesh: data, fsdp, seq, model.
      fast: compile without optimizing: only whether it fits.

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

    def with_choice(self, choice: MeshChoice) -> "AotRequest":
        """Returns the request with another mesh, micro-batch and rematerialization."""
        return self._replace(
            model=dataclasses.replace(self.model, remat_policy=REMAT[choice.remat]), remat=choice.remat,
            recipe=dataclasses.replace(self.recipe, micro_batch_size=choice.micro_rows),
            sizes=(1, choice.fsdp, choice.seq, 1),
        )  # fmt: skip

    def flags(self) -> str:
        """Returns the flags that set batch, mesh and rematerialization."""
        flags = [f"--batch_size={self.recipe.batch_size}"]
        if self.recipe.micro_batch_size:
            flags.append(f"--micro_batch_size={self.recipe.micro_batch_size}")
        flags += [f"--mesh_{axis}={n}" for axis, n in zip(MESH_AXES, self.sizes, strict=True) if n > 1]
        return " ".join([*flags, f"--remat={self.remat}"])


def plan(request: AotRequest, command: str) -> AotPlan:
    """Compiles a program and returns its plan.

    Args:
      request: what to compile.
      command: the command line that prints the plan.

    Raises:
      ValueError: the model cannot be split over the mesh, or the compiler fails for another reason than memory.

    """
    mesh, cfg = request.topology.mesh(*request.sizes), request.model.cfg
    micro = request.recipe.micro_batch_size or request.recipe.batch_size
    sharding.check_divisible(cfg, micro, request.length if request.program == "train" else mesh.shape["seq"], mesh)
    with jax.set_mesh(mesh):
        program = trace_program(request, mesh)
        fit = compile.compile_program(program, request.topology.chip.platform, request.fast)
    hbm = {
        name: float(bytes_)
        for name, bytes_ in program.estimated.items()
        if name not in ("gradients", "saved", "working")
    }
    hbm |= {"held": float(fit.held), "temporary": float(fit.temporary)} if fit.text else {}
    hbm |= {"peak": float(fit.peak), "limit": request.topology.chip.hbm}
    module = hlo.parse_hlo(fit.text) if fit.text else {}
    schedule = events(module) if module else ()
    step = estimate_step(request, module, mesh) if module and not request.fast else None
    return AotPlan(
        request.program,
        request.topology.name,
        command,
        setting(request),
        fits(fit, hbm["limit"]),
        hbm,
        flops(request),
        kernel_counts(walk(schedule)),
        collective_sums(walk(schedule)),
        step,
        "" if fits(fit, hbm["limit"]) else does_not_fit_advice(request),
        versions(),
    )


def versions() -> dict[str, str]:
    """Returns the versions of the installed compilers."""
    packages = ("jax", "libtpu", "jax-cuda13-pjrt")
    return {package: importlib.metadata.version(package) for package in packages if is_installed(package)}


def is_installed(package: str) -> bool:
    """Returns whether a Python package is installed."""
    return any(importlib.metadata.distributions(name=package))


def trace_program(request: AotRequest, mesh: jax.sharding.Mesh) -> Program:
    """Returns the requested program, traced on the current mesh."""
    if request.program == "train":
        return compile.training_program(request.model, request.recipe, request.length, mesh)
    model, rows = request.model, request.recipe.batch_size
    if request.program == "prefill":
        return inference_programs.prefill_program(model, rows, request.length, mesh)
    return inference_programs.decode_program(model, rows, request.length, mesh, request.topology.chip.platform)


def fits(fit: MemoryFit, limit: float) -> bool:
    """Returns whether a program fits into `limit` bytes; only the compiler for TPUs refuses what does not."""
    return fit.text != "" and fit.peak <= limit


def setting(request: AotRequest) -> dict[str, Any]:
    """Returns the plan's `setting`, which its table shows."""
    axes = zip(MESH_AXES, request.sizes, strict=True)
    micro = {"micro_rows": request.recipe.micro_batch_size} if request.recipe.micro_batch_size else {}
    return {
        "model": request.name[0], "method": request.name[1],
        "rows": request.recipe.batch_size, "length": request.length,
        "mesh": " ".join(f"{axis} {n}" for axis, n in axes if n > 1) or "-",
        "remat": request.remat if request.program == "train" else "-", **micro,
    }  # fmt: skip


def flops(request: AotRequest) -> dict[str, float]:
    """Returns floating-point operations of a training step, as `train_flops`; {} for other programs."""
    if request.program != "train":
        return {}
    tokens = request.recipe.batch_size * request.length
    return train_flops(request.model.cfg, request.model.method, request.length, tokens)._asdict()


def estimate_step(request: AotRequest, module: hlo.Module, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """Returns the estimated seconds of a run of the program, where they go, and throughput and MFU."""
    clock = roofline.StepClock(request.topology, mesh, module, attention_pairs(request), request.model.cfg.head_dim)
    estimate = clock.estimate()
    tokens = tokens_per_run(request, mesh)
    step: dict[str, Any] = {"seconds": estimate.seconds, "where": estimate.where, "places": estimate.places}
    step["tokens_per_second_per_chip"] = tokens / estimate.seconds / request.topology.chips
    if request.program == "train":
        peak = request.topology.chips * request.topology.chip.flops
        step["mfu"] = flops(request)["useful"] / peak / estimate.seconds
        step["chip_hours_of_1B_tokens"] = BILLION / tokens * estimate.seconds * request.topology.chips / 3600
    return step


def tokens_per_run(request: AotRequest, mesh: jax.sharding.Mesh) -> int:
    """Returns the tokens of one training step, of one chunk of all prompts, or one token of each row."""
    with jax.set_mesh(mesh):
        chunk = decode.prefill_chunk(request.recipe.batch_size, request.length)
    return request.recipe.batch_size * {"train": request.length, "prefill": chunk, "decode": 1}[request.program]


def attention_pairs(request: AotRequest) -> float:
    """Returns queries times their visible keys, over the heads of one layer, micro-batch and device.

    On TPUs this includes the masked half tile at each query's edge, which is computed as well.
    """
    cfg, (data, fsdp, seq, model) = request.model.cfg, request.sizes
    keys = visible_keys(request.model.attention(request.length), cfg.heads, request.length)
    keys += Splash().block / 2 if request.topology.chip.platform == "tpu" else 0  # cuDNN's are in its measured rate
    rows = (request.recipe.micro_batch_size or request.recipe.batch_size) / (data * fsdp)
    return rows * request.length * keys * cfg.heads / (seq * model)


def does_not_fit_advice(request: AotRequest) -> str:
    """Returns which flags would make the program fit."""
    if request.program != "train":
        return INFERENCE_ADVICE
    return search.search_advice(candidate_bytes(request, REMAT), request.topology.chip.hbm)


INFERENCE_ADVICE = "split the heads with --mesh_model, the cache with --mesh_seq, or take a smaller --batch_size"


def candidate_bytes(request: AotRequest, remats: Iterable[Remat]) -> dict[MeshChoice, int]:
    """Returns the estimated bytes of a device for all meshes of the topology; nothing is compiled."""
    bytes_of = {}
    for choice in search.choices(request.model.cfg, request.recipe.batch_size, request.topology.chips, remats):
        candidate = request.with_choice(choice)
        mesh = candidate.topology.mesh(*candidate.sizes)
        with jax.set_mesh(mesh):
            bytes_of[choice] = sum(trace_program(candidate, mesh).estimated.values())
    return bytes_of


def best_plan(request: AotRequest, command: str) -> AotPlan:
    """Compiles the most promising meshes, and returns the plan of the fastest that fits.

    Raises ValueError, with the smallest, if by the estimate none fits.
    """
    bytes_of = candidate_bytes(request, REMAT)
    choices = search.best_choices(bytes_of, request.topology.chip.hbm)
    if not choices:
        raise ValueError(search.search_advice(bytes_of, request.topology.chip.hbm))
    plans = [plan(request.with_choice(choice), f"{command} {choice.flags()}") for choice in choices]
    fitting = [p for p in plans if p.fits] or plans
    return min(fitting, key=lambda p: p.step["seconds"] if p.step else math.inf)
