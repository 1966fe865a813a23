"""STUDY.md: the page of a study of several seeds, made from its records alone."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from longjax import files
from longjax.report.single_run.page import settings_of
from longjax.report.study import base_check, export, recovery, summary
from longjax.report.study.figures import write_study_figures
from longjax.report.study.main_table import main_markdown, main_table, noise_table, seed_agreement
from longjax.report.study.overview_figure import write_overview
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
from longjax.report.study.recommendation import recommendation
from longjax.report.study.trials import Trials, read_trials
from longjax.report.tables import Table, markdown

QUESTIONS: tuple[Question, ...] = (  # (a), (b) and so on
    position_tables.section, landmark_memory.section, averaging.section, self_extend_grid.section,
    against_scores.section, scorers.section, beyond.section, cost.section,
)  # fmt: skip
PAGE_COMMAND = "python -m tools.study_report --run_dir=RUN_DIR --out=results/study"
SHORT = 8  # lines of a table that is shown unfolded
FIGURES, DISCUSSION, PAGE = "figures", "discussion.md", "STUDY.md"
SOURCE = (
    "After [arXiv:2409.12181](https://arxiv.org/abs/2409.12181), by this repository's own code. Tables, figures and "
    "findings are made from the records of the run; the discussion is written by hand."
)
PROVENANCE = (
    "[scores.csv](scores.csv) has a line for every score: seed, arm, weights, benchmark, task, length, value, "
    "standard error, count, and the file of the answers it was made of, below the run's folder. "
    "[positions.csv](positions.csv) has the loss by position, [study.json](study.json) all tables of this page as "
    "data, the settings of the run, and every arm with all its parameters. Questions, their settings and hashes "
    "are in manifest.json beside each file of answers."
)
Titles = Sequence[tuple[str, str]]  # of figures, by file name


def write_study_page(folder: pathlib.Path, out: pathlib.Path) -> str:
    """Write STUDY.md, figures/, tables/*.csv, scores.csv, positions.csv and study.json.

    Args:
      folder: of the study's run, with settings.json in it or in the folders of its seeds.
      out: where the page goes; a discussion.md in it becomes a part of the page.

    Returns:
      the main table as Markdown.

    Raises:
      ValueError: `folder` is no study's, or nothing in it was evaluated.

    """
    candidates = [folder, *sorted(folder.glob("seed_*"))]
    settings = next((content for place in candidates if (content := settings_of(place))), {})
    if not settings:
        raise ValueError(f"--run_dir={folder} is no study: neither it nor seed_0 in it has a settings.json")
    trials = read_trials(folder, settings["trained_len"], settings["extended_len"])
    pictures = out / FIGURES
    pictures.mkdir(parents=True, exist_ok=True)
    overview, titles = write_overview(trials, pictures), write_study_figures(trials, pictures)
    sections = [*(question(trials, pictures) for question in QUESTIONS), paper.section(trials, pictures)]
    checks = _check_tables(trials)
    main, noise = main_table(trials), noise_table(trials)
    tables = [main, noise, *(table for table, _ in checks)]
    for table in (*tables, *(t for s in sections for t in s.tables)):
        files.write_atomically(out / "tables" / f"{table.file}.csv", table.csv().encode())
    files.write_atomically(out / "scores.csv", export.scores_csv(trials).encode())
    files.write_atomically(out / "positions.csv", export.positions_csv(trials).encode())
    files.write_atomically(out / "study.json", export.study_json(trials, settings, tables, sections).encode())
    main_lines = main_markdown(trials, main)
    parts = [
        *_opening(trials, settings, overview, sections),
        *_results(trials, (main_lines, main, noise), checks, titles),
        "## Questions",
        *(part for head, section in _with_heads(sections) for part in _section(head, section)),
        *_discussion(out),
        *_closing(trials, settings),
    ]
    files.write_atomically(out / PAGE, ("\n\n".join(part for part in parts if part) + "\n").encode())
    return main_lines


def _check_tables(trials: Trials) -> list[tuple[Table, str]]:
    """-> the base's own scores and the recovery of methods, each with its finding, where they were run."""
    checks = [
        (base_check.base_table(trials), base_check.base_finding(trials)),
        (recovery.recovery_table(trials), recovery.recovery_finding(trials)),
    ]
    return [(table, finding) for table, finding in checks if finding]


def _opening(trials: Trials, settings: Mapping[str, Any], overview: Titles, sections: Sequence[Section]) -> list[str]:
    answers = [
        f"- [{head.lstrip('# ')}](#{anchor(head)}) {section.finding or 'Not run.'}"
        for head, section in _with_heads(sections)
    ]
    return [
        f"# Context extension from {trials.trained} to {trials.extended} tokens: a controlled study",
        summary.headline(trials, settings),
        *recommendation(trials),
        *(_picture(*title) for title in overview),
        "## Answers in short",
        "\n".join(answers),
        SOURCE,
        "## Protocol",
        *summary.protocol(trials, settings),
    ]


def _with_heads(sections: Sequence[Section]) -> list[tuple[str, Section]]:
    """-> each section with its headline; the last, on the paper, has no letter."""
    *questions, agreement = sections
    letters = zip("abcdefghijklmnop", questions, strict=False)
    return [*((f"### ({letter}) {s.title}", s) for letter, s in letters), (f"## {agreement.title}", agreement)]


def anchor(head: str) -> str:
    """Return the name of a headline in links."""
    return re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-")


def _results(
    trials: Trials, main: tuple[str, Table, Table], checks: Sequence[tuple[Table, str]], titles: Titles
) -> list[str]:
    main_lines, table, noise = main
    return [
        "## Results",
        main_lines,
        _notes(table),
        "\n".join(f"- {line}" for line in summary.missing_parts(trials)),
        *(part for check, finding in checks for part in (f"### {check.title}", finding, *_plain(check))),
        f"### {noise.title}",
        seed_agreement(trials),
        *_plain(noise),
        "### Figures",
        *(_picture(*title) for title in titles),
    ]


def _picture(name: str, title: str) -> str:
    return f"![{title}]({FIGURES}/{name})\n\n*{title}*"


def _notes(table: Table) -> str:
    lines = [*table.notes, f"[{table.file}.csv](tables/{table.file}.csv) has all numbers with their errors."]
    return "\n".join(f"- {line}" for line in lines)


def _plain(table: Table) -> list[str]:
    """-> its lines and notes."""
    left = 2 if any(who.kind for who, _ in table.lines) else 1
    return [markdown(table.text(), left=left), _notes(table)]


def _folded(table: Table) -> list[str]:
    """-> its title, lines and notes; a long one opens on a click."""
    if len(table.lines) <= SHORT:
        return [f"**{table.title}**", *_plain(table)]
    return [f"<details><summary><b>{table.title}</b></summary>", *_plain(table), "</details>"]


def _section(head: str, section: Section) -> list[str]:
    return [
        head,
        " ".join(section.protocol.split()),
        *(part for table in section.tables for part in _folded(table)),
        *(_picture(*title) for title in section.figures),
        f"**Finding.** {section.finding}" if section.finding else "",
        "\n".join(f"- {claim}" for claim in section.claims),
        f"Not run: {'; '.join(section.missing)}." if section.missing else "",
        f"    {section.command or COMMAND}",
    ]


def _discussion(out: pathlib.Path) -> list[str]:
    """-> what is written by hand beside the page, if anything is."""
    path = out / DISCUSSION
    return ["## Discussion", path.read_text("utf-8").strip()] if path.is_file() else []


def _closing(trials: Trials, settings: Mapping[str, Any]) -> list[str]:
    return [
        "## Limits",
        "\n".join(f"- {line}" for line in summary.limits(trials, settings)),
        "## Provenance",
        PROVENANCE,
        "    " + "\n    ".join([COMMAND, PAGE_COMMAND]),
        *_arms(trials, settings),
    ]


def _arms(trials: Trials, settings: Mapping[str, Any]) -> list[str]:
    """-> a line an arm: its method, and what is not the default of it."""
    words = {arm: _parameters(arm, settings.get("preset", {})) for arm in trials.arms}
    lines = [f"- {arm}: {parameters}" for arm, parameters in words.items() if parameters]
    if plain := [arm for arm, parameters in words.items() if not parameters]:
        lines.append(f"- with the defaults of their methods: {', '.join(plain)}")
    return ["<details><summary>Arms and their parameters</summary>", "\n".join(lines), "</details>"]


def _parameters(arm: str, preset: Mapping[str, Any]) -> str:
    """-> "self_extend, group 16, window 256"; "": all are defaults."""
    variant = preset.get("variants", {}).get(arm, {})
    method = variant.get("method", arm)
    values = preset.get("settings", {}).get(method, {}) | variant.get("settings", {}) | variant.get("recipe", {})
    words = [method] if method != arm else []
    words += [f"{name} {value}" for name, value in values.items()]
    tables = variant.get("tables", "float32")
    return ", ".join([*words, *([f"position tables {tables} in training"] if tables != "float32" else [])])
