"""Tables and figures of everything that was evaluated below a folder; of a study that is not yet finished, too.

python -m tools.report --dir=runs
python -m tools.report --dir=runs/demo --out=/tmp/report

report.md says the rest: what cannot be compared, which runs and settings the numbers come from.
"""

from absl import app, flags

from longjax import report

DIR = flags.DEFINE_string("dir", "runs/demo", "Folder of a study (settings.json), or with evaluations at any depth.")
OUT = flags.DEFINE_string("out", None, "Folder for report.md, tables/*.csv and figures/*.png; else --dir.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]}")
    try:
        print(report.write_report(DIR.value, OUT.value))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(f"\n{OUT.value or DIR.value}/report.md")


if __name__ == "__main__":
    app.run(main)
