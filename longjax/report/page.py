"""report.md of a folder: its study, if it holds one, and all evaluations below it."""

import os
import pathlib
from collections.abc import Sequence

from longjax import files
from longjax.evals.records import RUN
from longjax.evals.requests import Record
from longjax.evals.results import read_rows
from longjax.report.evaluation.page import write_evaluation_page
from longjax.report.single_run.page import is_of_study, settings_of, write_single_run_page


def write_report(folder: str | os.PathLike, out: str | os.PathLike | None = None) -> str:
    """Write report.md with its tables and figures.

    Args:
      folder: a study (with settings.json) or any folder with evaluation runs below it.
      out: where report.md, tables/ and figures go; None: into `folder`.

    Returns:
      the main tables, aligned for a terminal.

    Raises:
      ValueError: nothing in or below `folder` was evaluated.

    """
    folder = pathlib.Path(folder)
    target = pathlib.Path(folder if out is None else out)
    rows = read_rows(folder)
    if not rows:
        raise ValueError(f"--dir={folder} has no {_what_is_missing(folder)}")
    study_rows = [r for r in rows if is_of_study(r)]
    parts = []
    if study_rows and settings_of(folder):
        parts.append(write_single_run_page(folder, study_rows, target))
        rows = rows if len(rows) > len(study_rows) else []
    if rows:
        parts.append(write_evaluation_page(rows, target, *context_lengths(folder, rows)))
    files.write_atomically(target / "report.md", "\n".join(page for _, page in parts).encode())
    return "\n\n".join(table for table, _ in parts)


def _what_is_missing(folder: pathlib.Path) -> str:
    if next(folder.rglob(RUN), None):
        return "finished evaluations: run the same commands again to resume them"
    return f"evaluations: no {RUN} in it or below"


def context_lengths(folder: pathlib.Path, rows: Sequence[Record]) -> tuple[int | None, int | None]:
    """Return the base's context and the training length: the study's, else the rows' if all agree, else None."""
    settings, lengths = settings_of(folder), []
    for name in ("trained_len", "extended_len"):
        values = {r[name] for r in rows if r.get(name)}
        lengths.append(settings.get(name) or (values.pop() if len(values) == 1 else None))
    return lengths[0], lengths[1]
