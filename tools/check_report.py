"""Whether a study's folder holds what a study must: report, plots, finite numbers, a base that learned something.

python -m tools.check_report --dir=runs/demo-quick
"""

import json
import math
import pathlib

from absl import app, flags

from longjax.evals.rows import read_rows
from longjax.report.results import Study, gather
from longjax.report.study import is_of_study, own_records

DIR = flags.DEFINE_string("dir", "runs/demo", "Folder of the study.")
FILES = ("report.md", "settings.json", "perplexity.png", "positions.png", "passkey.png", "scatter.png")


def problems(folder: pathlib.Path) -> list[str]:
    """-> what is wrong, one line each."""
    found = [f"{name} is missing" for name in FILES if not (folder / name).exists()]
    if not (folder / "settings.json").exists():
        return found
    settings = json.loads((folder / "settings.json").read_text())
    records = [*own_records(folder), *filter(is_of_study, read_rows(folder))]
    study = Study(gather(records), settings["trained_len"], settings["extended_len"])
    for result in study.results:
        for length, record in result.ppl.items():
            if record["value"] is None or not math.isfinite(record["value"]) or record["nan"]:
                found.append(f"{result.method}: perplexity at {length} is {record['value']}")
    base, vocab = study.base, settings["preset"]["model"]["vocab"]
    if base is None:
        return [*found, "the base was not evaluated"]
    if not base.perplexity(study.trained) < vocab / 4:
        found.append(f"the base's perplexity, {base.perplexity(study.trained)}, is near that of a guess, {vocab}")
    if not base.passkey(study.trained) >= 0.9:
        found.append(f"the base retrieves {base.passkey(study.trained):.0%} of keys within its context: at least 90%")
    return found


def main(argv: list[str]) -> None:
    found = problems(pathlib.Path(DIR.value))
    print("\n".join(found) or f"{DIR.value} is complete")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    app.run(main)
