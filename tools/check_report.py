"""Whether a study's folder holds what a study must: report, plots, finite numbers, a base that learned something.

python -m tools.check_report --dir=runs/demo-quick
"""

import math
import pathlib

from absl import app, flags

from longjax.evals.results import read_rows
from longjax.report.single_run.page import is_of_study, settings_of
from longjax.report.single_run.results import Study, gather

DIR = flags.DEFINE_string("dir", "runs/demo", "Folder of the study.")
FILES = ("report.md", "settings.json", "perplexity.png", "positions.png", "passkey.png", "scatter.png")


def problems(folder: pathlib.Path) -> list[str]:
    """-> what is wrong, one line each."""
    found = [f"{name} is missing" for name in FILES if not (folder / name).exists()]
    if not (folder / "settings.json").exists():
        return found
    settings, rows = settings_of(folder), read_rows(folder)
    study = Study(gather(list(filter(is_of_study, rows))), settings["trained_len"], settings["extended_len"])
    for result in study.results:
        for length, row in sorted(result.ppl.items()):
            if row["value"] is None or not math.isfinite(row["value"]) or row["nan"]:
                found.append(f"{result.method}: perplexity at {length} is {row['value']} ({row['nan']} windows of NaN)")
    base, vocab = study.base, settings["preset"]["model"]["vocab"]
    if base is None:
        return [*found, "the base was not evaluated"]
    if not base.perplexity(study.trained) < vocab / 4:
        found.append(f"the base's perplexity, {base.perplexity(study.trained)}, is near that of a guess, {vocab}")
    if not base.passkey(study.trained) >= 0.9:
        found.append(f"the base retrieves {base.passkey(study.trained):.0%} of keys within its context: at least 90%")
    return found


def main(argv: list[str]) -> None:
    try:
        found = problems(pathlib.Path(DIR.value))
    except ValueError as error:
        found = [str(error)]
    print("\n".join(found) or f"{DIR.value} is complete")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    app.run(main)
