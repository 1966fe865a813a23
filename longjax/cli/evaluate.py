"""A checkpoint, a method and benchmarks, from flags to records."""

import dataclasses
import functools
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
from absl import logging

from longjax import made_by_0_1, sharding
from longjax.attention.backends import best
from longjax.checkpoints import pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.fingerprint import fingerprint
from longjax.checkpoints.pretrained import Checkpoint
from longjax.checkpoints.resize_vocab import grow_vocab
from longjax.cli.names import integers, named, suggestion
from longjax.data.tokenizer import Tokenizer
from longjax.evals.batching import Plan
from longjax.evals.benchmarks import BENCHMARKS
from longjax.evals.context import Material
from longjax.evals.harness.runner import installed
from longjax.evals.requests import Record
from longjax.inference.evaluate import Planned
from longjax.inference.language_model import Examinee
from longjax.inference.rope_length import stateless, sticky, sticky_with_reset
from longjax.methods import Method, ds_bf16
from longjax.methods.identity import in_words, method_identity
from longjax.methods.lora import LoraInit, in_weights
from longjax.methods.method import nothing
from longjax.model.llama import Llama
from longjax.model.placement import OneDevice
from longjax.progress import Report
from longjax.study import runner as launch

GROWTH = {"stateless": stateless, "sticky": sticky, "sticky_with_reset": sticky_with_reset}


@dataclasses.dataclass(frozen=True)
class Exam:
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
    growth: Literal["stateless", "sticky", "sticky_with_reset"] = "stateless"  # sticky: frequencies of the longest yet
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
                raise ValueError(f"--tasks={self.tasks}: {name} is unknown{suggestion(name, BENCHMARKS)}")

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
        method = on_base(named(self.method, self.method_config), given.method) if self.method else given.method
        identity = method_identity(method)
        told = made_by_0_1.of_method(pretrained.said_of(given.folder), method, identity)
        if (trained := told.get("method", identity)) != identity:
            raise ValueError(
                f"--checkpoint={self.checkpoint} is for another method: name it with --method and --method_config, so "
                f"that it is {in_words(trained)}; now it is {in_words(identity)}"
            )
        if isinstance(method.own, LoraInit):  # checkpoints hold weights to which adapters have been added
            method = in_weights(method)
        return ds_bf16(method) if self.position_tables == "ds_bf16" else method

    def material(self, given: Checkpoint) -> Material:
        lengths, prompts = integers(self.lengths, "lengths"), self.prompts and pathlib.Path(self.prompts)
        return Material(
            pathlib.Path(self.data_dir), Tokenizer(given.folder), lengths, self.seed, self.num_samples,
            prompts or None, self.skip_bad, given.cfg.trained_len,
        )  # fmt: skip


def unread(exam: Exam, given: Checkpoint, mesh: jax.sharding.Mesh | None) -> Examinee:
    """-> the checkpoint with its method; nothing of it is in memory, so that it can plan and no more."""
    method, tokenizer = exam.chosen(given), Tokenizer(given.folder)
    cfg = launch.grown(given.cfg, method) if is_new(given, method) else given.cfg
    model = Llama(cfg, method, softmax=best(), place=sharding.OnMesh() if mesh else OneDevice())
    about = identity(exam, given, method, tokenizer)
    return Examinee(model, {}, tokenizer, about, mesh, exam.batch_tokens, exam.max_length, GROWTH[exam.growth])


def read(exam: Exam, given: Checkpoint, subject: Examinee, report: Report) -> Examinee:
    """-> the same with its parameters."""
    method, mesh, dtype = subject.model.method, subject.mesh, jnp.dtype(exam.dtype)
    params: dict[str, Any] = dict(pretrained.load(given.tensors, given.cfg, mesh, dtype, report))
    if is_new(given, method):
        logging.warning("--checkpoint=%s has not been trained with inserted tokens: theirs is new", exam.checkpoint)
        params = grow_vocab(params)
    own = pretrained.load_own(given.folder)
    if not own and method.own is not nothing:
        logging.warning("--checkpoint=%s has no parameters of the method: they are untrained", exam.checkpoint)
        own = method.own(jax.random.key(exam.seed), subject.model.cfg)
    params |= {"method": own} if own else {}
    return dataclasses.replace(subject, params=sharding.put(params, mesh) if mesh else params)


def is_new(given: Checkpoint, method: Method) -> bool:
    """Whether the method inserts tokens that the checkpoint does not know."""
    return method.insert is not None and not pretrained.said_of(given.folder)


def identity(exam: Exam, given: Checkpoint, method: Method, tokenizer: Tokenizer) -> Record:
    """-> what a run is of; other weights, another method or tokenizer make it another run."""
    return {
        "method": run_name(exam, given), "weights": "given", "kind": launch.kind(method),
        "checkpoint": given.folder.name, "checkpoint_sha256": fingerprint(given.folder, exam.adapter),
        "identity": method_identity(method), "tokenizer_sha256": tokenizer.sha256, "dtype": exam.dtype,
        "growth": exam.growth, "trained_len": given.cfg.trained_len,
        "model": f"{given.cfg.layers} layers of {given.cfg.dim}",
    }  # fmt: skip


def run_name(exam: Exam, given: Checkpoint) -> str:
    return exam.name or exam.method or given.folder.resolve().name


def told(tasks: Planned) -> tuple[list[str], int]:
    """-> the plan for people, and how many programs will be compiled. Every generation needs two."""
    shapes = {shape for _, plan in tasks for shape in plan.shapes}
    programs = sum(2 if shape.kind == "generation" else 1 for shape in shapes)
    lines = [f"{task.name}: {said(plan)}" for task, plan in tasks]
    total = f"{len(tasks)} tasks, {sum(plan.tokens for _, plan in tasks):,} tokens, {programs} programs"
    return [*lines, total], programs


def said(plan: Plan) -> str:
    count = sum(len(batch.numbers) for batch in plan.batches)
    sizes = ", ".join(sorted({f"{shape.rows} x {shape.size}" for shape in plan.shapes}))
    calls = f"{len(plan.batches)} calls of {sizes}"
    return f"{count} questions, {plan.tokens:,} tokens, {calls}, {plan.padding:.0%} padding"
