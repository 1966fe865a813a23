"""The benchmarks' own prompts, from a folder that tools.extract_prompts wrote. They are not ours to ship."""

import json
import pathlib
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

from longjax.evals.requests import Record

LONGBENCH, RULER = "longbench.json", "ruler.json"
RULER_FIELDS = {  # what each base task must say, and the most it may say
    "niah": ({"context", "query"}, {"context", "query", "type_needle_v"}),
    "variable_tracking": ({"context", "query"}, {"context", "query", "num_v"}),
    "common_words_extraction": ({"context"}, {"context", "query"}),
    "freq_words_extraction": ({"context"}, {"context", "query"}),
    "qa": ({"context", "query"}, {"context", "query"}),
}


class RulerPrompt(NamedTuple):
    """Of one base task: the question, how its answer begins, and the most tokens of the answer."""

    template: str
    answer_prefix: str
    new: int


class Prompt(NamedTuple):
    """Of one task of LongBench: a template with {context} and perhaps {input}, and the most tokens of the answer."""

    template: str
    new: int


def ruler_prompts(folder: pathlib.Path) -> dict[str, RulerPrompt]:
    """-> by base task: niah, variable_tracking, common_words_extraction, freq_words_extraction, qa."""
    path = folder / RULER
    return checked_ruler(str(path), _section(path, "base_tasks"))


def longbench_prompts(folder: pathlib.Path, asks: Mapping[str, bool]) -> dict[str, Prompt]:
    """-> by task. `asks`: of each task that is wanted, whether its prompt must hold {input}."""
    path = folder / LONGBENCH
    return checked_longbench(str(path), _section(path, "tasks"), asks)


def checked_ruler(where: str, tasks: Record) -> dict[str, RulerPrompt]:
    """Raises ValueError that begins with `where`."""
    prompts = {}
    for task, (needed, known) in RULER_FIELDS.items():
        here, entry = _entry(where, tasks, task)
        template, prefix = _text(here, entry, "template"), _text(here, entry, "answer_prefix")
        check_fields(here, template, needed, known)
        check_fields(f"{here}, answer_prefix", prefix, set(), known - {"context"})
        prompts[task] = RulerPrompt(template, prefix, _count(here, entry, "tokens_to_generate"))
    return prompts


def checked_longbench(where: str, tasks: Record, asks: Mapping[str, bool]) -> dict[str, Prompt]:
    """Raises ValueError that begins with `where`."""
    prompts = {}
    for task, asked in asks.items():
        here, entry = _entry(where, tasks, task)
        template = _text(here, entry, "prompt")
        check_fields(here, template, {"context", "input"} if asked else {"context"}, {"context", "input"})
        prompts[task] = Prompt(template, _count(here, entry, "max_gen"))
    return prompts


def check_fields(where: str, template: str, needed: set[str], known: set[str]) -> None:
    """Raises ValueError that begins with `where` unless the template has the fields that it must and may have."""
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ValueError(f"{where}: not a template, as {error}; write {{{{ for a brace") from error
    if missing := needed - fields:
        raise ValueError(f"{where}: the prompt has no {{{min(missing)}}}")
    if other := fields - known:
        raise ValueError(f"{where}: nothing is known of {{{min(other)}}}; write {{{{ for a brace")


def _bytes(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"--prompts={path.parent} has no readable {path.name}: python -m tools.extract_prompts makes it from a "
            "checkout of the benchmark; without --prompts our wording is used"
        ) from error


def _section(path: pathlib.Path, name: str) -> Record:
    try:
        held: Any = json.loads(_bytes(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON, or is torn ({error}): make it again") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: make it again") from error
    section = held.get(name) if isinstance(held, dict) else None
    if not isinstance(section, dict):
        raise ValueError(f'{path} holds no object "{name}": python -m tools.extract_prompts makes it')
    return section


def _entry(where: str, section: Record, task: str) -> tuple[str, Record]:
    entry = section.get(task)
    if not isinstance(entry, dict):
        raise ValueError(f"{where} has no task {task}: python -m tools.extract_prompts makes all of them")
    return f"{where}, {task}", entry


def _text(where: str, entry: Record, name: str) -> str:
    if not isinstance(text := entry.get(name), str):
        raise ValueError(f'{where}: "{name}" must be a text, not {text!r}')
    return text


def _count(where: str, entry: Record, name: str) -> int:
    count = entry.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f'{where}: "{name}" must be a number of tokens, not {count!r}')
    return count
