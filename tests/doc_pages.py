"""README and docs as the tests read them: pages, their Python blocks, shell blocks and command lines."""

import ast
import pathlib
import re
import shlex
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
SCRIPTS = tuple(path for room in ("experiments", "tools", "benchmarks") for path in sorted((ROOT / room).glob("*.py")))
COMMAND = re.compile(r"(?:python -m \w+(?:\.\w+)*|longjax-[a-z-]+)(?: [^\n`]*)?")


class Command(NamedTuple):
    """A command line of a page.

    Attributes:
      program: "python -m tools.plan" or "longjax-plan".
      words: arguments before the first flag.
      flags: names and values.

    """

    program: str
    words: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]

    @property
    def module(self) -> str | None:
        return self.program.removeprefix("python -m ") if self.program.startswith("python") else None

    @property
    def line(self) -> str:
        return " ".join((self.program, *self.words))


def name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """-> the fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[Command]:
    """-> all command lines, in blocks and in sentences; capitals stand for what a reader puts there."""
    found = (parse(match[0]) for match in COMMAND.finditer(re.sub(r"\\\n\s*", "", text)))
    return [one for one in found if not re.search("[A-Z]", one.program + "".join(one.words))]


def parse(line: str) -> Command:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a command within quotes ends with one
        words = shlex.split(re.split("[\"'](?=[^\"']*$)", line)[0], comments=True)
    start = 3 if words[0] == "python" else 1
    first = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    pairs = [word.removeprefix("--").partition("=")[::2] for word in words[first:] if word.startswith("--")]
    return Command(" ".join(words[:start]), tuple(words[start:first]), tuple(pairs))


def docstring(path: pathlib.Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""
