"""What a question's file gives to the page: `section(trials, folder) -> Section | None`."""

import dataclasses
import pathlib
from typing import Protocol

from longjax.report.study.trials import Trials
from longjax.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A question, and what the trials say to it.

    Attributes:
      title: the question.
      protocol: what was run, and how it is compared: a paragraph.
      tables: shown in this order; the page writes them as CSV, too.
      figures: (file name, title); they are in the folder already.
      finding: paragraphs; every number in them is of the rows.
      command: what runs it again.
      missing: what was not run; the page says so.

    """

    title: str
    protocol: str
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    finding: tuple[str, ...] = ()
    command: str = ""
    missing: tuple[str, ...] = ()


class Question(Protocol):
    """Draws its figures into the folder. -> the section; one without tables and with `missing`: nothing was run."""

    def __call__(self, trials: Trials, folder: pathlib.Path) -> Section: ...
