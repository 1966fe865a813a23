"""Exports the answers of a run for the benchmarks' own scorers and plots.

  python -m tools.export_answers --run=runs/eval/ntk_32k --out=exported

RULER: OUT/ruler/<length>/<task>.jsonl for its eval/evaluate.py; LongBench: OUT/longbench/<task>.jsonl for its eval.py;
needles: a JSON file for each depth in OUT/needle/<kind>/<length> for the study's needle_plot.py.
"""

import pathlib
from collections.abc import Callable, Sequence

from absl import flags

from longjax.cli import main as cli
from longjax.evals import longbench, needle, ruler
from longjax.evals.records import RECORDS, RUN, read_records
from longjax.evals.requests import Record

VALUES = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()  # tests have their own flags
OF_RUN = flags.DEFINE_string("run", "", "Folder of a run, which has run.json.", flag_values=VALUES)
OUT = flags.DEFINE_string("out", "exported", "Folder to write.", flag_values=VALUES)


def ruler_file(records: Sequence[Record], out: pathlib.Path) -> None:
    """Write a task of RULER to `out`.jsonl."""
    ruler.export_ruler(records, out.with_name(f"{out.name}.jsonl"))


def longbench_file(records: Sequence[Record], out: pathlib.Path) -> None:
    """Write a task of LongBench to `out`.jsonl."""
    longbench.export_longbench(records, out.with_name(f"{out.name}.jsonl"))


def needle_files(records: Sequence[Record], out: pathlib.Path) -> None:
    """Write a task of needles to the folder `out`."""
    needle.export_needle(records, out)


FORMATS: dict[str, Callable[[Sequence[Record], pathlib.Path], None]] = {
    "ruler": ruler_file, "longbench": longbench_file, "longbench_e": longbench_file, "needle": needle_files,
}  # fmt: skip


def main() -> None:
    """Export every task of a run that has a format."""
    run, out, count = pathlib.Path(OF_RUN.value), pathlib.Path(OUT.value), 0
    if not OF_RUN.value or not (run / RUN).is_file():
        raise ValueError(f"--run={OF_RUN.value} has no {RUN}: name the folder of one run")
    for path in sorted(run.rglob(RECORDS)):
        name = path.parent.relative_to(run)
        if export := FORMATS.get(name.parts[0]):
            export(sorted(read_records(path)[0], key=lambda record: record["index"]), out / name)
            count += 1
    print(f"{count} tasks in {out}")


if __name__ == "__main__":
    cli.start(main, VALUES)
