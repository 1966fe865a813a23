"""report.md of a folder: of its study, if it holds one, and of all evaluations below it."""

import os
import pathlib
from collections.abc import Sequence

from longjax import files
from longjax.evals.records import RUN
from longjax.evals.requests import Record
from longjax.evals.results import read_rows
from longjax.report.evaluation import page as evaluation
from longjax.report.single_run import page as study
from longjax.report.single_run.page import is_of_study, settings_of


def write_report(folder: str | os.PathLike, out: str | os.PathLike | None = None) -> str:
    """Writes report.md with its tables and figures into `out`, else `folder`. -> the main table for a terminal."""
    folder = pathlib.Path(folder)
    target = pathlib.Path(folder if out is None else out)
    rows = read_rows(folder)
    if not rows:
        raise ValueError(f"--dir={folder} has no {nothing(folder)}")
    of_study = [r for r in rows if is_of_study(r)]
    parts = []
    if of_study and settings_of(folder):
        parts.append(study.write(folder, of_study, target))
        rows = rows if len(rows) > len(of_study) else []
    if rows:
        parts.append(evaluation.write_evaluation_page(rows, target, *lengths(folder, rows)))
    files.write_atomically(target / "report.md", "\n".join(page for _, page in parts).encode())
    return "\n\n".join(table for table, _ in parts)


def nothing(folder: pathlib.Path) -> str:
    """-> what a folder without rows lacks."""
    if next(folder.rglob(RUN), None):
        return "finished evaluations: run the same commands again, and they go on"
    return f"evaluations: no {RUN} in it or below"


def lengths(folder: pathlib.Path, rows: Sequence[Record]) -> tuple[int | None, int | None]:
    """-> the context of the base, and the length of the training: of the study, else of the rows, if they agree."""
    settings, found = settings_of(folder), []
    for name in ("trained_len", "extended_len"):
        said = {r[name] for r in rows if r.get(name)}
        found.append(settings.get(name) or (said.pop() if len(said) == 1 else None))
    return found[0], found[1]
