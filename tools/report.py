"""Rebuilds the report of a finished or interrupted study from its records.

python -m tools.report --dir=runs/demo
"""

from absl import app, flags

from longjax import report

DIR = flags.DEFINE_string("dir", "runs/demo", "Folder with records.jsonl and settings.json; the report goes there too.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]}")
    try:
        print(report.write(DIR.value))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(f"\n{DIR.value}/report.md")


if __name__ == "__main__":
    app.run(main)
