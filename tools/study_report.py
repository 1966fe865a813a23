"""STUDY.md of a study's records: tables, figures, findings, and where every number comes from.

python -m tools.study_report --run_dir=runs/study --out=results/study

Of a study that is not finished it says what was not run. discussion.md in --out becomes a part of the page.
"""

import pathlib

from absl import app, flags

from longjax.report.study import page

RUN = flags.DEFINE_string("run_dir", "runs/study", "Folder of the study: settings.json, seed_0/ and the others.")
OUT = flags.DEFINE_string("out", "results/study", "Folder for STUDY.md and all that it shows.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]}")
    try:
        print(page.write_study_page(pathlib.Path(RUN.value), pathlib.Path(OUT.value)))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(f"\n{OUT.value}/{page.PAGE}")


if __name__ == "__main__":
    app.run(main)
