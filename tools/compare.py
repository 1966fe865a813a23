"""Compares two runs by a paired bootstrap over the same examples, task by task.

python -m tools.compare --a=runs/pi/eval --b=runs/yarn/eval
python -m tools.compare --a=... --b=... --tasks=ruler,longbench/qasper --out=/tmp/comparison

Scores are in per cent, perplexity is perplexity; b - a, so that a positive difference of scores favors b. Windows of
perplexity are drawn by piece of text. p is two-sided and not corrected for the number of tasks.
"""

import pathlib

from absl import flags

from longjax import files
from longjax.cli.main import start
from longjax.report.stats.paired import (
    RecordsByIndex,
    compare_runs,
    comparison_csv,
    comparison_table,
    records_of_run,
    small_sample_warnings,
)  # fmt: skip
from longjax.report.tables import markdown, terminal

A = flags.DEFINE_string("a", None, "Folder of a run, which has run.json.", required=True)
B = flags.DEFINE_string("b", None, "Folder of the run that is compared with it, which has run.json.", required=True)
TASKS = flags.DEFINE_list("tasks", [], "Only tasks whose names begin like this: ruler, longbench/qasper; all.")
OUT = flags.DEFINE_string("out", None, "Folder for compare.md and compare.csv.")
SEED = flags.DEFINE_integer("seed", 0, "Of the resamples.")
RESAMPLES = flags.DEFINE_integer("resamples", 10_000, "Number of resamples.", lower_bound=100)


def chosen_tasks(tasks: dict[str, RecordsByIndex], flag: str) -> dict[str, RecordsByIndex]:
    """Return the tasks of --tasks; raises ValueError if there are none."""
    chosen = {name: x for name, x in tasks.items() if not TASKS.value or name.startswith(tuple(TASKS.value))}
    if not chosen:
        raise ValueError(f"--tasks={','.join(TASKS.value)} leaves nothing of --{flag}: it has {', '.join(tasks)}")
    return chosen


def run() -> None:
    """Compare the two runs, print the table and write it into --out."""
    runs = ((A.value, "a"), (B.value, "b"))
    a, b = (chosen_tasks(records_of_run(pathlib.Path(x), flag), flag) for x, flag in runs)
    comparisons = compare_runs(a, b, SEED.value, RESAMPLES.value)
    alone = [f"only in --{flag}: {', '.join(sorted(x))}" for flag, x in (("a", a.keys() - b), ("b", b.keys() - a)) if x]
    notes = [
        f"a: {A.value}",
        f"b: {B.value}",
        f"{RESAMPLES.value} resamples, seed {SEED.value}",
        *sorted(alone),
        *small_sample_warnings(comparisons),
    ]
    table = comparison_table(comparisons)
    print(terminal(table, left=1))
    print("\n" + "\n".join(notes))
    if OUT.value:
        out = pathlib.Path(OUT.value)
        page = "# Comparison\n\n" + "\n".join(f"- {line}" for line in notes) + f"\n\n{markdown(table, left=1)}\n"
        files.write_atomically(out / "compare.md", page.encode())
        files.write_atomically(out / "compare.csv", comparison_csv(comparisons).encode())


if __name__ == "__main__":
    start(run, flags.FLAGS)
