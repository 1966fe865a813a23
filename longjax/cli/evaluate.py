r"""Evaluates any checkpoint with any method on every benchmark: records that survive SIGKILL, scores, a table.

  longjax-evaluate --checkpoint=/models/Llama-2-7b-hf --method=ntk_32k --tasks=all \
      --lengths=4096,8192,16384,32768 --data_dir=/data/eval --out_dir=runs/eval
  longjax-evaluate --checkpoint=/models/Llama-2-7b-hf --method=self_extend --method_config="window=1024 group=16" \
      --tasks=ruler,needle --lengths=16384 --dry_run

The same command resumes a killed run and repeats nothing. `longjax-report --dir=runs/eval` compares the runs in one
directory.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags as absl_flags
from absl import logging

from longjax.checkpoints.extension import extended_model, extended_params
from longjax.checkpoints.fingerprint import checkpoint_fingerprint
from longjax.checkpoints.pretrained import Checkpoint
from longjax.cli import flags
from longjax.cli.eval_options import EvalOptions
from longjax.cli.main import start
from longjax.cli.names import lengths
from longjax.cli.options import MeshOptions
from longjax.data.tokenizer import Tokenizer
from longjax.evals import harness
from longjax.evals.batching import BatchPlan
from longjax.evals.benchmarks import BENCHMARKS
from longjax.evals.requests import Record, Task
from longjax.evals.results import run_rows
from longjax.inference.engine import InferenceEngine
from longjax.inference.evaluate import PlannedTasks, check_cache_memory, evaluate_tasks, plan_tasks, seal_run
from longjax.inference.rope_length import stateless, sticky, sticky_with_reset
from longjax.locks import locked
from longjax.methods.identity import method_identity
from longjax.methods.method import category
from longjax.progress import LineProgress, ProgressFn, ThroughputProgress, no_progress
from longjax.report.tables import terminal
from longjax.sharding.distributed import barrier

LENGTH_POLICIES = {"stateless": stateless, "sticky": sticky, "sticky_with_reset": sticky_with_reset}


def main(values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None) -> None:
    """The command longjax-evaluate."""
    options, mesh_options = flags.define(EvalOptions, values), flags.define(MeshOptions, values)
    benchmarks = {name: flags.define(benchmark.settings, values) for name, benchmark in BENCHMARKS.items()}

    def run() -> None:
        mesh_options().start()
        chosen = options()
        settings = {name: benchmarks[name]() for name in chosen.benchmarks}
        evaluate(chosen, settings, mesh_options().mesh())

    start(run, values, argv, __doc__)


def evaluate(options: EvalOptions, settings: Mapping[str, Any], mesh: jax.sharding.Mesh | None) -> None:
    """Makes the requests, plans their batches, answers and scores them, and prints a table.

    Args:
      options: the checkpoint, the method and the benchmarks.
      settings: of each benchmark, by its name.
      mesh: devices to split the model over; None: one device.

    """
    first, checkpoint = jax.process_index() == 0, options.open_checkpoint()
    engine = engine_without_params(options, checkpoint, mesh)
    if "short" in settings:
        harness.prepare_short_tasks(options.context(checkpoint), settings["short"])
    tasks = make_tasks(options, settings, checkpoint) if first else []
    barrier("task files written")
    folder = pathlib.Path(options.out_dir) / options.run_name(checkpoint)
    seal_run(engine, folder, writes=False)  # raises for another run's folder
    with locked(folder, "--out_dir") if first and not options.dry_run else contextlib.nullcontext():
        plans = plan_tasks(tasks or make_tasks(options, settings, checkpoint), engine, folder)
        check_plan(options, plans, first)
        if options.dry_run:
            return
        answer(folder, options, settings, checkpoint, engine, plans)
    if first:
        print(score_table(list(run_rows(folder, folder.parent))))


def check_plan(options: EvalOptions, plans: PlannedTasks, prints: bool) -> None:
    """Prints the plan and warns of requests longer than --lengths. Raises ValueError for too many programs."""
    lines, programs = plan_summary(plans)
    if prints:
        print("\n".join(lines), flush=True)
        warn_of_longer(plans, max(lengths(options.lengths)))
    if options.max_compilations is not None and programs > options.max_compilations:
        raise ValueError(f"the plan needs {programs} programs, over --max_compilations={options.max_compilations}")


def answer(
    folder: pathlib.Path, options: EvalOptions, settings: Mapping[str, Any], checkpoint: Checkpoint,
    engine: InferenceEngine, plans: PlannedTasks,
) -> None:  # fmt: skip
    """Answers and scores the requests of all tasks into a folder that this process holds."""
    first, name = jax.process_index() == 0, folder.name
    check_cache_memory(plans, engine)
    engine = with_params(options, checkpoint, engine, LineProgress(name) if first else no_progress)
    tokens = sum(plan.tokens for _, plan in plans)
    evaluate_tasks(plans, engine, folder, ThroughputProgress(name, tokens, "tokens") if first else no_progress, first)
    if "short" in settings:
        context, report = options.context(checkpoint), LineProgress(name) if first else no_progress
        longest = options.max_length or max(context.lengths)
        harness.run_short_tasks(engine, context, settings["short"], folder / "short", longest, first, report)


def make_tasks(options: EvalOptions, settings: Mapping[str, Any], checkpoint: Checkpoint) -> list[Task]:
    """Returns the tasks of all benchmarks but the short ones, which lm-evaluation-harness makes."""
    context = options.context(checkpoint)
    return [task for name, benchmark in settings.items() if name != "short" for task in benchmark.tasks(context)]


def engine_without_params(
    options: EvalOptions, checkpoint: Checkpoint, mesh: jax.sharding.Mesh | None
) -> InferenceEngine:
    """Returns the checkpoint with its method, without parameters: enough to plan."""
    method, tokenizer = options.method_on(checkpoint), options.tokenizer(checkpoint)
    metadata = {
        "method": options.run_name(checkpoint), "weights": "given", "kind": category(method),
        "checkpoint": checkpoint.folder.name,
        "checkpoint_sha256": checkpoint_fingerprint(checkpoint.folder, options.adapter),
        "identity": method_identity(method), "tokenizer_sha256": tokenizer.sha256, "dtype": options.dtype,
        "opening": opening_text(tokenizer), "eos_ids": list(tokenizer.eos_ids),
        "growth": options.rope_length, "trained_len": checkpoint.cfg.trained_len,
        "model": f"{checkpoint.cfg.layers} layers of {checkpoint.cfg.dim}",
    }  # fmt: skip
    return InferenceEngine(
        extended_model(checkpoint, method, mesh), {}, tokenizer, metadata, mesh, options.batch_tokens,
        options.max_length, LENGTH_POLICIES[options.rope_length],
    )  # fmt: skip


def opening_text(tokenizer: Tokenizer) -> str:
    """Returns the token that opens every prompt, as text; "": none."""
    return tokenizer.decode([tokenizer.bos_id]) or f"id {tokenizer.bos_id}" if tokenizer.bos_id >= 0 else ""


def with_params(
    options: EvalOptions, checkpoint: Checkpoint, engine: InferenceEngine, report: ProgressFn
) -> InferenceEngine:
    """Returns the engine with the checkpoint's parameters."""
    params = extended_params(checkpoint, engine.model, engine.mesh, jnp.dtype(options.dtype), options.seed, report)
    return dataclasses.replace(engine, params=params)


def plan_summary(tasks: PlannedTasks) -> tuple[list[str], int]:
    """Returns a line a task and one for all that remain, and how many programs will be compiled."""
    shapes = {shape for _, plan in tasks for shape in plan.shapes}
    programs = sum(2 if shape.kind == "generation" else 1 for shape in shapes)  # generation has prefill and decode
    lines = [f"{task.name}: {plan_line(plan)}" for task, plan in tasks]
    total = f"{len(tasks)} tasks, {sum(plan.tokens for _, plan in tasks):,} tokens, {programs} programs"
    return [*lines, total], programs


def warn_of_longer(tasks: PlannedTasks, length: int) -> None:
    """Warns, in one line, of tasks with requests that are longer than the longest of --lengths."""
    longer = [f"{task.name} ({plan.longest})" for task, plan in tasks if plan.longest > length]
    if longer:
        more = f" and {len(longer) - 8} more" if len(longer) > 8 else ""
        logging.warning("longer than --lengths=%d with their answers: %s%s", length, ", ".join(longer[:8]), more)


def plan_line(plan: BatchPlan) -> str:
    """Returns the remaining batches of a task in words: how many requests, tokens and calls of which sizes."""
    if not plan.batches:
        return "finished"
    count = sum(len(batch.indices) for batch in plan.batches)
    sizes = ", ".join(sorted({f"{shape.rows} x {shape.size}" for shape in plan.shapes}))
    calls = f"{len(plan.batches)} calls of {sizes}"
    return f"{count} requests, {plan.tokens:,} tokens, {calls}, {plan.padding:.0%} padding"


def score_table(rows: Sequence[Record]) -> str:
    """Returns a table for the terminal, a line a row of results but those by position; scores in per cent."""
    lines = [["benchmark", "task", "at", "value", "error", "n"]]
    for row in sorted(rows, key=row_order):
        if row["task"] == "position_nll":
            continue
        percent = 1 if row["benchmark"] == "perplexity" else 100
        at = [f"{row[key]}" for key in ("protocol", "length", "depth", "metric") if row.get(key) is not None]
        value, error = ("-" if x is None else f"{percent * x:.2f}" for x in (row["value"], row.get("stderr")))
        lines.append([row["benchmark"], row["task"], " ".join(at), value, error, str(row["n"])])
    return terminal(lines, left=3)


def row_order(row: Record) -> tuple:
    """Returns the sort key of a row: by benchmark, then length, shots, task and depth."""
    return row["benchmark"], row.get("length") or 0, row.get("shots") or 0, row["task"], row.get("depth") or 0
