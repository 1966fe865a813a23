"""STUDY.md: what a study of several seeds shows, made of its records alone."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from longjax import files
from longjax.report.single_run.page import settings_of
from longjax.report.study import base_check, export, figures, overview_figure, recovery, summary, trials
from longjax.report.study.main_table import agreement, main_markdown, main_table, seeds_table
from longjax.report.study.questions import (
    against_scores,
    averaging,
    beyond,
    cost,
    landmark_memory,
    paper,
    position_tables,
    scorers,
    self_extend_grid,
)
from longjax.report.study.questions.base import Question, Section
from longjax.report.study.questions.comparisons import COMMAND
from longjax.report.study.trials import Trials
from longjax.report.tables import Table, markdown

QUESTIONS: tuple[Question, ...] = (  # (a), (b) and so on
    position_tables.section, landmark_memory.section, averaging.section, self_extend_grid.section,
    against_scores.section, scorers.section, beyond.section, cost.section,
)  # fmt: skip
AGAIN = "python -m tools.study_report --run_dir=RUN_DIR --out=results/study"
SHORT = 8  # lines of a table
FIGURES, DISCUSSION, PAGE = "figures", "discussion.md", "STUDY.md"


def write_study_page(folder: pathlib.Path, out: pathlib.Path) -> str:
    """Writes STUDY.md, figures/, tables/*.csv, scores.csv, positions.csv and study.json. -> the main table as Markdown.

    Raises ValueError if `folder` is no study's.
    """
    places = [folder, *sorted(folder.glob("seed_*"))]
    settings = next((said for place in places if (said := settings_of(place))), {})
    if not settings:
        raise ValueError(f"--run_dir={folder} is no study: neither it nor seed_0 in it has a settings.json")
    found = trials.read(folder, settings["trained_len"], settings["extended_len"])
    pictured = out / FIGURES
    pictured.mkdir(parents=True, exist_ok=True)
    shown = [*overview_figure.draw_overview(found, pictured), *figures.draw_figures(found, pictured)]
    sections = [*(question(found, pictured) for question in QUESTIONS), paper.section(found, pictured)]
    main, noise = main_table(found), seeds_table(found)
    own = [module.table(found) for module in (base_check, recovery) if module.finding(found)]
    for table in (main, noise, *own, *(t for s in sections for t in s.tables)):
        files.write_atomically(out / "tables" / f"{table.file}.csv", table.csv().encode())
    files.write_atomically(out / "scores.csv", export.scores(found).encode())
    files.write_atomically(out / "positions.csv", export.positions(found).encode())
    files.write_atomically(out / "study.json", export.data(found, settings, [main, noise, *own], sections).encode())
    said = main_markdown(found, main)
    parts = [
        *opening(found, settings, shown, sections),
        *results(found, main, noise, said, shown),
        *questions(sections),
        *discussion(out),
        *closing(found, settings),
    ]
    files.write_atomically(out / PAGE, ("\n\n".join(part for part in parts if part) + "\n").encode())
    return said


def opening(
    found: Trials, settings: Mapping[str, Any], shown: Sequence[tuple[str, str]], sections: Sequence[Section]
) -> list[str]:
    title = f"# Context extension from {found.trained} to {found.extended} tokens: a controlled study"
    source = (
        "After [arXiv:2409.12181](https://arxiv.org/abs/2409.12181), by this repository's own code. This page, its "
        "sentences included, is made of the records of the run."
    )
    first = [picture(*x) for x in shown if x[0] == "overview.png"]
    return [
        title,
        summary.abstract(found, settings),
        *first,
        "## Answers in short",
        "\n".join(f"- [{head.lstrip('# ')}](#{anchor(head)}) {answer(one)}" for head, one in headed(sections)),
        source,
        "## Protocol",
        *summary.protocol(found, settings),
    ]


def headed(sections: Sequence[Section]) -> list[tuple[str, Section]]:
    """-> each with its headline; the last, on the paper, has no letter."""
    *asked, agreed = sections
    letters = zip("abcdefghijklmnop", asked, strict=False)
    return [*((f"### ({letter}) {one.title}", one) for letter, one in letters), (f"## {agreed.title}", agreed)]


def anchor(head: str) -> str:
    """-> what a headline is called in links."""
    return re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-")


def answer(one: Section) -> str:
    return one.finding[0] if one.finding else "Not run."


def results(found: Trials, main: Table, noise: Table, said: str, shown: Sequence[tuple[str, str]]) -> list[str]:
    missing = "\n".join(f"- {line}" for line in summary.missing(found))
    return [
        "## Results",
        said,
        notes(main),
        missing,
        *comparison_lines(found),
        "### What is noise",
        agreement(found),
        markdown(noise.text(), left=1),
        notes(noise),
        "### Figures",
        *(picture(*x) for x in shown if x[0] != "overview.png"),
    ]


def comparison_lines(found: Trials) -> list[str]:
    """-> what a reader must know of the base, and of methods that have not recovered."""
    parts = []
    if said := base_check.finding(found):
        table = base_check.table(found)
        parts += [f"### {base_check.TITLE}", said, markdown(table.text(), left=1), notes(table)]
    if said := recovery.finding(found):
        table = recovery.table(found)
        parts += [f"### {recovery.TITLE}", said, markdown(table.text()), notes(table)]
        parts += ["\n".join(f"- {line}" for line in recovery.why(found))]
    return parts


def picture(name: str, title: str) -> str:
    return f"![{title}]({FIGURES}/{name})\n\n*{title}*"


def notes(table: Table) -> str:
    lines = [*table.notes, f"[{table.file}.csv](tables/{table.file}.csv) has all numbers with their errors."]
    return "\n".join(f"- {line}" for line in lines)


def questions(sections: Sequence[Section]) -> list[str]:
    """-> the questions by letters, then the paper."""
    return ["## Questions", *(part for head, one in headed(sections) for part in section(head, one))]


def section(head: str, one: Section) -> list[str]:
    parts = [head, " ".join(one.protocol.split())]
    for table in one.tables:
        parts += shown_table(table)
    parts += [picture(*x) for x in one.figures]
    found = [f"**Finding.** {one.finding[0]}", *one.finding[1:]] if one.finding else []
    gone = [f"Not run: {'; '.join(one.missing)}."] if one.missing else []
    return [*parts, *found, *gone, f"    {one.command or COMMAND}"]


def shown_table(table: Table) -> list[str]:
    """-> its title, lines and notes; a long one opens on a click."""
    left = 2 if any(who.kind for who, _ in table.lines) else 1
    body = [markdown(table.text(), left=left), notes(table)]
    if len(table.lines) <= SHORT:
        return [f"**{table.title}**", *body]
    return [f"<details><summary><b>{table.title}</b></summary>", *body, "</details>"]


def discussion(out: pathlib.Path) -> list[str]:
    """-> what people have written beside the page, if they have."""
    path = out / DISCUSSION
    return ["## Discussion", path.read_text("utf-8").strip()] if path.is_file() else []


def arms(found: Trials, settings: Mapping[str, Any]) -> list[str]:
    """-> a line an arm: its method, and what is not the default of it."""
    lines, plain = [], []
    for arm in found.arms:
        said = about(arm, settings.get("preset", {}))
        lines += [f"- {arm}: {said}"] if said else []
        plain += [] if said else [arm]
    lines += [f"- with the defaults of their methods: {', '.join(plain)}"] if plain else []
    return ["<details><summary>Arms and their parameters</summary>", "\n".join(lines), "</details>"]


def about(arm: str, preset: Mapping[str, Any]) -> str:
    """-> "self_extend, group 16, window 256"; "": all are defaults."""
    variant = preset.get("variants", {}).get(arm, {})
    method = variant.get("method", arm)
    given = preset.get("settings", {}).get(method, {}) | variant.get("settings", {}) | variant.get("recipe", {})
    words = [method] * (method != arm) + [f"{name} {value}" for name, value in given.items()]
    tables = variant.get("tables", "float32")
    return ", ".join([*words, *[f"position tables {tables} in training"] * (tables != "float32")])


def closing(found: Trials, settings: Mapping[str, Any]) -> list[str]:
    limits = "\n".join(f"- {line}" for line in summary.limits(found, settings))
    where = (
        "[scores.csv](scores.csv) has a line for every score: seed, arm, weights, benchmark, task, length, value, "
        "standard error, count, and the file of the answers it was made of, below the run's folder. "
        "[positions.csv](positions.csv) has the loss by position, [study.json](study.json) all tables of this page as "
        "data, the settings of the run, and every arm with all its parameters. Questions, their settings and hashes "
        "are in manifest.json beside each file of answers."
    )
    return [
        "## Limits",
        limits,
        "## Where every number comes from",
        where,
        "    " + "\n    ".join([COMMAND, AGAIN]),
        *arms(found, settings),
    ]
