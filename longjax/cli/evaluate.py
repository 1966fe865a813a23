"""A checkpoint, a method and benchmarks, from flags to records."""

import dataclasses
import functools
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
from absl import logging

from longjax import made_by_0_1, sharding
from longjax.attention.backends import default_backend
from longjax.checkpoints import pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.fingerprint import checkpoint_fingerprint
from longjax.checkpoints.pretrained import Checkpoint
from longjax.checkpoints.resize_vocab import resize_vocab
from longjax.cli.names import did_you_mean, integers, method_by_name
from longjax.data.tokenizer import Tokenizer
from longjax.evals.batching import BatchPlan
from longjax.evals.benchmarks import BENCHMARKS
from longjax.evals.context import EvalContext
from longjax.evals.harness.runner import installed
from longjax.evals.requests import Record
from longjax.inference.evaluate import PlannedTasks
from longjax.inference.language_model import LanguageModel
from longjax.inference.rope_length import stateless, sticky, sticky_with_reset
from longjax.methods import Method, ds_bf16
from longjax.methods.identity import in_words, method_identity
from longjax.methods.lora import LoraInit, in_weights
from longjax.methods.method import no_params
from longjax.model.llama import Llama
from longjax.model.placement import SingleDevice
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
        return pretrained.open_checkpoint(self.checkpoint, self.adapter, self.dtype, "checkpoint")

    def chosen(self, given: Checkpoint) -> Method:
        """-> the method. A checkpoint that was trained for one that its configuration cannot say must get that one."""
        method = on_base(method_by_name(self.method, self.method_config), given.method) if self.method else given.method
        identity = method_identity(method)
        told = made_by_0_1.of_method(pretrained.read_provenance(given.folder), method, identity)
        if (trained := told.get("method", identity)) != identity:
            raise ValueError(
                f"--checkpoint={self.checkpoint} is for another method: name it with --method and --method_config, so "
                f"that it is {in_words(trained)}; now it is {in_words(identity)}"
            )
        if isinstance(method.init_params, LoraInit):  # checkpoints hold weights to which adapters have been added
            method = in_weights(method)
        return ds_bf16(method) if self.position_tables == "ds_bf16" else method

    def material(self, given: Checkpoint) -> EvalContext:
        lengths, prompts = integers(self.lengths, "lengths"), self.prompts and pathlib.Path(self.prompts)
        return EvalContext(
            pathlib.Path(self.data_dir), Tokenizer(given.folder), lengths, self.seed, self.num_samples,
            prompts or None, self.skip_bad, given.cfg.trained_len,
        )  # fmt: skip


def build_model(exam: EvalOptions, given: Checkpoint, mesh: jax.sharding.Mesh | None) -> LanguageModel:
    """-> the checkpoint with its method; nothing of it is in memory, so that it can plan and no more."""
    method, tokenizer = exam.chosen(given), Tokenizer(given.folder)
    cfg = runner.with_inserted_token(given.cfg, method) if needs_new_token(given, method) else given.cfg
    model = Llama(
        cfg, method, backend=default_backend(), placement=sharding.MeshPlacement() if mesh else SingleDevice()
    )
    about = identity(exam, given, method, tokenizer)
    return LanguageModel(
        model, {}, tokenizer, about, mesh, exam.batch_tokens, exam.max_length, GROWTH[exam.rope_length]
    )


def load_params(exam: EvalOptions, given: Checkpoint, subject: LanguageModel, report: ProgressFn) -> LanguageModel:
    """-> the same with its parameters."""
    method, mesh, dtype = subject.model.method, subject.mesh, jnp.dtype(exam.dtype)
    params: dict[str, Any] = dict(pretrained.load(given.tensors, given.cfg, mesh, dtype, report))
    if needs_new_token(given, method):
        logging.warning("--checkpoint=%s has not been trained with inserted tokens: theirs is new", exam.checkpoint)
        params = resize_vocab(params)
    own = pretrained.load_method_params(given.folder)
    if not own and method.init_params is not no_params:
        logging.warning("--checkpoint=%s has no parameters of the method: they are untrained", exam.checkpoint)
        own = method.init_params(jax.random.key(exam.seed), subject.model.cfg)
    params |= {"method": own} if own else {}
    return dataclasses.replace(subject, params=sharding.shard_params(params, mesh) if mesh else params)


def needs_new_token(given: Checkpoint, method: Method) -> bool:
    """Whether the method inserts tokens that the checkpoint does not know."""
    return method.insert_tokens is not None and not pretrained.read_provenance(given.folder)


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
    count = sum(len(batch.numbers) for batch in plan.batches)
    sizes = ", ".join(sorted({f"{shape.rows} x {shape.size}" for shape in plan.shapes}))
    calls = f"{len(plan.batches)} calls of {sizes}"
    return f"{count} questions, {plan.tokens:,} tokens, {calls}, {plan.padding:.0%} padding"
