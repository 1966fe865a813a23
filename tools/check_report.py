"""Checks that a study's folder is complete: report, figures, finite numbers, a base that has learned something.

python -m tools.check_report --dir=runs/demo-quick
"""

import math
import pathlib

from absl import app, flags

from longjax.evals.results import read_rows
from longjax.report.rows import evaluations
from longjax.report.single_run.findings import base_of, passkey_share, perplexity
from longjax.report.single_run.page import is_of_study, settings_of

DIR = flags.DEFINE_string("dir", "runs/demo", "Folder of the study.")
FILES = ("report.md", "settings.json", "perplexity.png", "positions.png", "passkey.png", "scatter.png")


def problems(folder: pathlib.Path) -> list[str]:
    """Return a line for each thing that is missing or wrong."""
    lines = [f"{name} is missing" for name in FILES if not (folder / name).exists()]
    if not (folder / "settings.json").exists():
        return lines
    settings = settings_of(folder)
    trained, vocab = settings["trained_len"], settings["preset"]["model"]["vocab"]
    evals = evaluations([row for row in read_rows(folder) if is_of_study(row)], trained, settings["extended_len"])
    for who, rows in evals.rows.items():
        for row in sorted((r for r in rows if r["task"] == "perplexity"), key=lambda r: r["length"]):
            if row["value"] is None or not math.isfinite(row["value"]) or row["nan"]:
                windows = f"{row['nan']} windows of NaN"
                lines.append(f"{who.label}: perplexity at {row['length']} is {row['value']} ({windows})")
    base = base_of(evals)
    if base is None:
        return [*lines, "the base was not evaluated"]
    ppl, keys = perplexity(evals, base, trained), passkey_share(evals, base, trained)
    if not ppl < vocab / 4:
        lines.append(f"the base's perplexity, {ppl}, is near that of a guess, {vocab}")
    if not keys >= 0.9:
        lines.append(f"the base retrieves {keys:.0%} of keys within its context: at least 90% are expected")
    return lines


def main(argv: list[str]) -> None:
    """Print the problems and exit with 1 if there are any."""
    try:
        lines = problems(pathlib.Path(DIR.value))
    except ValueError as error:
        lines = [str(error)]
    print("\n".join(lines) or f"{DIR.value} is complete")
    raise SystemExit(bool(lines))


if __name__ == "__main__":
    app.run(main)
