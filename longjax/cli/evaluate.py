"""A checkpoint, a method and benchmarks, from flags to records."""

import dataclasses
import functools
import pathlib
from typing import Literal

import jax
import jax.numpy as jnp
from absl import logging

from longjax.checkpoints import pretrained
from longjax.checkpoints.extension import extended_model, extended_params, extension_method
from longjax.checkpoints.fingerprint import checkpoint_fingerprint
from longjax.checkpoints.pretrained import Checkpoint
from longjax.cli.names import did_you_mean, integers, method_by_name
from longjax.data.tokenizer import Tokenizer
from longjax.evals.batching import BatchPlan
from longjax.evals.benchmarks import BENCHMARKS
from longjax.evals.context import EvalContext
from longjax.evals.harness.runner import installed
from longjax.evals.requests import Record
from longjax.inference.engine import InferenceEngine
from longjax.inference.evaluate import PlannedTasks
from longjax.inference.rope_length import stateless, sticky, sticky_with_reset
from longjax.methods import Method, ds_bf16
from longjax.methods.identity import method_identity
from longjax.methods.lora import LoraInit, in_weights
from longjax.progress import ProgressFn
from longjax.study import runner

GROWTH = {"stateless": stateless, "sticky": sticky, "sticky_with_reset": sticky_with_reset}


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """What is examined, by what, and where the answers go."""

    checkpoint: str = ""  # directory of Hugging Face, of Meta, or what we converted to orbax
    adapter: str | None = None  # a folder with PEFT adapters or LongLoRA's release, on top of it
    method: str = ""  # by name; none: the positions and the attention that the checkpoint's configuration asks for
    method_config: str = ""  # its parameters, with spaces: "factor=8 beta_fast=32"
    name: str = ""  # of the run in folders and tables; none: the method's
    tasks: str = "all"  # or benchmarks joined by commas
    data_dir: str = "data/eval"  # files of the benchmarks; tools.make_eval_data writes small ones
    out_dir: str = "runs/eval"  # answers and scores go to a folder of the run's name below it
    lengths: str = "4096"  # of questions in tokens, answers included, joined by commas
    position_tables: Literal["float32", "ds_bf16"] = "float32"  # ds_bf16: as DeepSpeed rounds them, see that method
    rope_length: Literal["stateless", "sticky", "sticky_with_reset"] = (
        "stateless"  # sticky: frequencies of the longest yet
    )
    seed: int = 0  # of all that is drawn
    num_samples: int | None = None  # questions of a task, at most; none: the benchmark's number
    prompts: str | None = None  # folder with the benchmarks' own strings, see tools.extract_prompts; none: our wording
    skip_bad: bool = False  # leave out lines of files that cannot be read, and count them
    batch_tokens: int = 16_384  # of a call, about; the answers do not depend on it
    max_length: int | None = None  # the longest question that the model may get; none: any
    max_compilations: int | None = None  # end at once if the plan needs more
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of weights and activations
    dry_run: bool = False  # print the plan and end

    def __post_init__(self):
        for name in self.benchmarks:
            if name not in BENCHMARKS:
                raise ValueError(f"--tasks={self.tasks}: {name} is unknown{did_you_mean(name, BENCHMARKS)}")

    @functools.cached_property
    def benchmarks(self) -> list[str]:
        """Those that are asked for; all: the short tasks only if their package is there."""
        if self.tasks != "all":
            return self.tasks.split(",")
        if installed():
            return [*BENCHMARKS]
        logging.warning("--tasks=all leaves out short: pip install longjax[harness]")
        return [name for name in BENCHMARKS if name != "short"]

    def open(self) -> Checkpoint:
        if not self.checkpoint:
            raise ValueError("--checkpoint is needed: a directory")
        return pretrained.open_checkpoint(self.checkpoint, self.adapter, self.dtype)

    def chosen(self, given: Checkpoint) -> Method:
        """Returns the method on this checkpoint. Raises ValueError if the checkpoint was trained for another."""
        method = extension_method(given, method_by_name(self.method, self.method_config) if self.method else None)
        if isinstance(method.init_params, LoraInit):  # checkpoints hold weights to which adapters have been added
            method = in_weights(method)
        return ds_bf16(method) if self.position_tables == "ds_bf16" else method

    def material(self, given: Checkpoint) -> EvalContext:
        lengths, prompts = integers(self.lengths, "lengths"), self.prompts and pathlib.Path(self.prompts)
        return EvalContext(
            pathlib.Path(self.data_dir), Tokenizer(given.folder), lengths, self.seed, self.num_samples,
            prompts or None, self.skip_bad, given.cfg.trained_len,
        )  # fmt: skip


def build_model(exam: EvalOptions, given: Checkpoint, mesh: jax.sharding.Mesh | None) -> InferenceEngine:
    """Returns the checkpoint with its method, without parameters: enough to plan."""
    method, tokenizer = exam.chosen(given), Tokenizer(given.folder)
    metadata = identity(exam, given, method, tokenizer)
    return InferenceEngine(
        extended_model(given, method, mesh), {}, tokenizer, metadata, mesh, exam.batch_tokens, exam.max_length,
        GROWTH[exam.rope_length],
    )  # fmt: skip


def load_params(exam: EvalOptions, given: Checkpoint, engine: InferenceEngine, report: ProgressFn) -> InferenceEngine:
    """Returns the same with its parameters."""
    params = extended_params(given, engine.model, engine.mesh, jnp.dtype(exam.dtype), exam.seed, report)
    return dataclasses.replace(engine, params=params)


def identity(exam: EvalOptions, given: Checkpoint, method: Method, tokenizer: Tokenizer) -> Record:
    """-> what a run is of; other weights, another method or tokenizer make it another run."""
    return {
        "method": run_name(exam, given), "weights": "given", "kind": runner.category(method),
        "checkpoint": given.folder.name, "checkpoint_sha256": checkpoint_fingerprint(given.folder, exam.adapter),
        "identity": method_identity(method), "tokenizer_sha256": tokenizer.sha256, "dtype": exam.dtype,
        "growth": exam.rope_length, "trained_len": given.cfg.trained_len,
        "model": f"{given.cfg.layers} layers of {given.cfg.dim}",
    }  # fmt: skip


def run_name(exam: EvalOptions, given: Checkpoint) -> str:
    return exam.name or exam.method or given.folder.resolve().name


def plan_summary(tasks: PlannedTasks) -> tuple[list[str], int]:
    """-> the plan for people, and how many programs will be compiled. Every generation needs two."""
    shapes = {shape for _, plan in tasks for shape in plan.shapes}
    programs = sum(2 if shape.kind == "generation" else 1 for shape in shapes)
    lines = [f"{task.name}: {plan_line(plan)}" for task, plan in tasks]
    total = f"{len(tasks)} tasks, {sum(plan.tokens for _, plan in tasks):,} tokens, {programs} programs"
    return [*lines, total], programs


def plan_line(plan: BatchPlan) -> str:
    count = sum(len(batch.indices) for batch in plan.batches)
    sizes = ", ".join(sorted({f"{shape.rows} x {shape.size}" for shape in plan.shapes}))
    calls = f"{len(plan.batches)} calls of {sizes}"
    return f"{count} questions, {plan.tokens:,} tokens, {calls}, {plan.padding:.0%} padding"
