"""The benchmarks' own prompts, read from a folder that tools.extract_prompts wrote; we may not ship them."""

import json
import pathlib
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

from longjax.evals.requests import Record
from longjax.files import read_text

LONGBENCH, RULER = "longbench.json", "ruler.json"
RULER_FIELDS = {  # of each base task, the fields that its template must have, and those that it may have
    "niah": ({"context", "query"}, {"context", "query", "type_needle_v"}),
    "variable_tracking": ({"context", "query"}, {"context", "query", "num_v"}),
    "common_words_extraction": ({"context"}, {"context", "query"}),
    "freq_words_extraction": ({"context"}, {"context", "query"}),
    "qa": ({"context", "query"}, {"context", "query"}),
}


class RulerPrompt(NamedTuple):
    """The prompt of a base task of RULER.

    Attributes:
      template: with fields in braces.
      answer_prefix: text with which the answer begins; part of the prompt.
      max_new_tokens: of the answer.

    """

    template: str
    answer_prefix: str
    max_new_tokens: int


class LongBenchPrompt(NamedTuple):
    """The prompt of a task of LongBench: a template with {context} and perhaps {input}, and the limit of new tokens."""

    template: str
    max_new_tokens: int


def ruler_prompts(folder: pathlib.Path) -> dict[str, RulerPrompt]:
    """Read RULER's prompts.

    Args:
      folder: holds ruler.json.

    Returns:
      Prompts by base task: niah, variable_tracking, common_words_extraction, freq_words_extraction, qa.

    Raises:
      ValueError: the file is missing, torn, or a prompt lacks a field.

    """
    path = folder / RULER
    return checked_ruler(str(path), _section(path, "base_tasks"))


def longbench_prompts(folder: pathlib.Path, has_input: Mapping[str, bool]) -> dict[str, LongBenchPrompt]:
    """Read LongBench's prompts.

    Args:
      folder: holds longbench.json.
      has_input: of each task to read, whether its template must have {input}.

    Returns:
      Prompts by task.

    Raises:
      ValueError: the file is missing, torn, or a prompt lacks a field.

    """
    path = folder / LONGBENCH
    return checked_longbench(str(path), _section(path, "tasks"), has_input)


def checked_ruler(source: str, tasks: Record) -> dict[str, RulerPrompt]:
    """Return RULER's prompts of a JSON object. Raises ValueError that begins with `source`."""
    prompts = {}
    for task, (needed, known) in RULER_FIELDS.items():
        source_of_task, entry = _entry(source, tasks, task)
        template, prefix = _text(source_of_task, entry, "template"), _text(source_of_task, entry, "answer_prefix")
        check_fields(source_of_task, template, needed, known)
        check_fields(f"{source_of_task}, answer_prefix", prefix, set(), known - {"context"})
        prompts[task] = RulerPrompt(template, prefix, _count(source_of_task, entry, "tokens_to_generate"))
    return prompts


def checked_longbench(source: str, tasks: Record, has_input: Mapping[str, bool]) -> dict[str, LongBenchPrompt]:
    """Return LongBench's prompts of a JSON object. Raises ValueError that begins with `source`."""
    prompts = {}
    for task, needs_input in has_input.items():
        source_of_task, entry = _entry(source, tasks, task)
        template = _text(source_of_task, entry, "prompt")
        needed = {"context", "input"} if needs_input else {"context"}
        check_fields(source_of_task, template, needed, {"context", "input"})
        prompts[task] = LongBenchPrompt(template, _count(source_of_task, entry, "max_gen"))
    return prompts


def check_fields(source: str, template: str, needed: set[str], known: set[str]) -> None:
    """Raise ValueError that begins with `source` unless a template has all `needed` fields, and only `known` ones."""
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ValueError(f"{source}: not a template, as {error}; write {{{{ for a brace") from error
    if missing := needed - fields:
        raise ValueError(f"{source}: the prompt has no {{{min(missing)}}}")
    if other := fields - known:
        raise ValueError(f"{source}: unknown field {{{min(other)}}}; write {{{{ for a brace")


def _content(path: pathlib.Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise ValueError(
            f"--prompts={path.parent} has no readable {path.name}: python -m tools.extract_prompts makes it from a "
            "checkout of the benchmark; without --prompts our wording is used"
        ) from error


def _section(path: pathlib.Path, name: str) -> Record:
    try:
        content: Any = json.loads(_content(path))
    except (RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON, or is torn ({error}): make it again") from error
    section = content.get(name) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise ValueError(f'{path} holds no object "{name}": python -m tools.extract_prompts makes it')
    return section


def _entry(source: str, section: Record, task: str) -> tuple[str, Record]:
    entry = section.get(task)
    if not isinstance(entry, dict):
        raise ValueError(f"{source} has no task {task}: python -m tools.extract_prompts makes all of them")
    return f"{source}, {task}", entry


def _text(source: str, entry: Record, name: str) -> str:
    if not isinstance(text := entry.get(name), str):
        raise ValueError(f'{source}: "{name}" must be a text, not {text!r}')
    return text


def _count(source: str, entry: Record, name: str) -> int:
    count = entry.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f'{source}: "{name}" must be a number of tokens, not {count!r}')
    return count
