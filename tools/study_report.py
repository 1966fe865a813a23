"""Writes STUDY.md from a study's records: tables, figures, findings, and the provenance of every number.

python -m tools.study_report --run_dir=runs/study --out=results/study

The page of an unfinished study lists what was not run. A discussion.md in --out becomes a part of the page.
"""

import pathlib

from absl import flags

from longjax.cli.main import start
from longjax.report.study.page import PAGE, write_study_page

RUN = flags.DEFINE_string("run_dir", "runs/study", "Folder of the study: settings.json, seed_0/ and the others.")
OUT = flags.DEFINE_string("out", "results/study", "Folder for STUDY.md and all that it shows.")


def run() -> None:
    """Write the page and print its main table."""
    print(write_study_page(pathlib.Path(RUN.value), pathlib.Path(OUT.value)))
    print(f"\n{OUT.value}/{PAGE}")


if __name__ == "__main__":
    start(run, flags.FLAGS)
