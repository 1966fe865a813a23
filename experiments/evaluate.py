r"""Any checkpoint with any method on every benchmark: records that a kill cannot harm, scores, a table.

  python -m experiments.evaluate --checkpoint=/models/Llama-2-7b-hf --method=ntk_32k --tasks=all \
      --lengths=4096,8192,16384,32768 --data_dir=/data/eval --out_dir=runs/eval
  python -m experiments.evaluate --checkpoint=longjax/bases/mini --method=self_extend --method_config="window=32 group=16" \
      --tasks=ruler,needle --lengths=1024 --dry_run

The same command goes on where it was killed; what is done is not done again. `python -m tools.report --dir=runs/eval`
lays the runs below one folder side by side.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags as absl_flags

from longjax.checkpoints.pretrained import Checkpoint
from longjax.cli import evaluate, flags
from longjax.cli import main as cli
from longjax.cli.evaluate import EvalOptions
from longjax.cli.options import MeshOptions
from longjax.evals import harness
from longjax.evals.benchmarks import BENCHMARKS
from longjax.evals.requests import Record, Task
from longjax.evals.results import run_rows
from longjax.inference.evaluate import evaluate_tasks, plan_tasks, seal_run
from longjax.inference.engine import InferenceEngine
from longjax.progress import LineProgress, ProgressFn, ThroughputProgress, no_progress
from longjax.report.tables import terminal
from longjax.sharding.distributed import barrier

VALUES = absl_flags.FLAGS if __name__ == "__main__" else absl_flags.FlagValues()  # a test leaves those of others alone
asked, machine = flags.define(EvalOptions, flag_values=VALUES), flags.define(MeshOptions, flag_values=VALUES)
settings: dict[str, Any] = {
    name: flags.define(benchmark.settings, flag_values=VALUES) for name, benchmark in BENCHMARKS.items()
}


def main() -> None:
    machine().start()
    chosen, first = asked(), jax.process_index() == 0
    given = chosen.open()
    subject = evaluate.build_model(chosen, given, machine().mesh())
    if "short" in chosen.benchmarks:
        harness.ready(chosen.material(given), settings["short"]())
    tasks = questions(chosen, given) if first else []
    barrier("what is drawn is on disk")
    tasks = tasks or questions(chosen, given)
    plans = plan_tasks(tasks, subject)
    lines, programs = evaluate.plan_summary(plans)
    if first:
        print("\n".join(lines), flush=True)
    if chosen.max_compilations is not None and programs > chosen.max_compilations:
        raise ValueError(f"the plan needs {programs} programs, over --max_compilations={chosen.max_compilations}")
    if chosen.dry_run:
        return
    folder = pathlib.Path(chosen.out_dir) / evaluate.run_name(chosen, given)
    report = LineProgress(evaluate.run_name(chosen, given)) if first else no_progress
    seal_run(subject, folder, first)  # another run's folder is refused before anything is read
    subject = evaluate.load_params(chosen, given, subject, report)
    name, tokens = evaluate.run_name(chosen, given), sum(plan.tokens for _, plan in plans)
    evaluate_tasks(plans, subject, folder, ThroughputProgress(name, tokens, "tokens") if first else no_progress, first)
    if "short" in chosen.benchmarks:
        short(chosen, given, subject, folder, report)
    if first:
        print(table(list(run_rows(folder, folder.parent))))


def questions(chosen: EvalOptions, given: Checkpoint) -> list[Task]:
    """-> of all benchmarks but the short tasks, whose package asks its own."""
    material = chosen.material(given)
    made = [settings[name]().tasks(material) for name in chosen.benchmarks if name != "short"]
    return [task for tasks in made for task in tasks]


def short(
    chosen: EvalOptions, given: Checkpoint, subject: InferenceEngine, folder: pathlib.Path, report: ProgressFn
) -> None:
    material, writes = chosen.material(given), jax.process_index() == 0
    longest = chosen.max_length or max(material.lengths)
    harness.run_short_tasks(subject, material, settings["short"](), folder / "short", longest, writes, report)


def table(rows: Sequence[Record]) -> str:
    """-> a line a row, those of positions left out; scores in per cent."""
    lines = [["benchmark", "task", "at", "value", "error", "n"]]
    for row in sorted(rows, key=place):
        if row["task"] == "position_nll":
            continue
        percent = 1 if row["benchmark"] == "perplexity" else 100
        at = [f"{row[key]}" for key in ("protocol", "length", "depth", "metric") if row.get(key) is not None]
        value, error = ("-" if x is None else f"{percent * x:.2f}" for x in (row["value"], row.get("stderr")))
        lines.append([row["benchmark"], row["task"], " ".join(at), value, error, str(row["n"])])
    return terminal(lines, left=3)


def place(row: Record) -> tuple:
    return row["benchmark"], row.get("length") or 0, row.get("shots") or 0, row["task"], row.get("depth") or 0


if __name__ == "__main__":
    cli.start(main, VALUES)
