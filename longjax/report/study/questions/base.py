"""The section that a question's file gives to the page: `section(trials, folder) -> Section`."""

import dataclasses
import pathlib
from typing import Protocol

from longjax.report.study.trials import Trials
from longjax.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A question and its answer.

    Attributes:
      title: the question.
      protocol: what was run, and how it is compared: a paragraph.
      tables: in the order of the page, which writes them as CSV, too.
      figures: (file name, title) of files that are in the folder already.
      finding: the answer in a line; every number in it is of the rows.
      claims: further statements with their verdicts, one a list item.
      command: what runs it again.
      missing: what was not run.

    """

    title: str
    protocol: str
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    finding: str = ""
    claims: tuple[str, ...] = ()
    command: str = ""
    missing: tuple[str, ...] = ()


class Question(Protocol):
    """Write figures into the folder and return the section; without tables and with `missing`: nothing was run."""

    def __call__(self, trials: Trials, folder: pathlib.Path) -> Section: ...
