"""Runs lm_eval's tasks on the user's files: writes their rows, and for each task a yaml that includes lm_eval's own."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence

from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.harness.catalog import SUBJECT, ShortTask
from longjax.evals.requests import Record
from longjax.files import fingerprint_json

SUBJECTS = 57  # of MMLU


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedTask:
    """A task as lm_eval runs it.

    Attributes:
      name: in lm_eval; MMLU has a task for each subject.
      task: the short task that it is, or is a part of.
      rows: that are evaluated.
      pool: rows that examples are taken from.
      shots: number of examples before each question.

    """

    name: str
    task: ShortTask
    rows: Sequence[Record]
    pool: Sequence[Record]
    shots: int

    @property
    def yaml(self) -> str:
        """Path of the yaml below lm_eval's folder of tasks."""
        return self.task.yaml.format(subject=self.name.removeprefix("mmlu_"))


def prepare_tasks(ctx: EvalContext, tasks: Sequence[ShortTask], shots: int | None) -> list[PreparedTask]:
    """Read the rows of tasks.

    Args:
      ctx: names the files.
      tasks: to read.
      shots: number of examples instead of the published ones, except for TruthfulQA, whose prompt has its own.

    Returns:
      The tasks with their rows.

    Raises:
      ValueError: a file is missing or has too few examples, or a row cannot be used.

    """
    return [
        prepared
        for task in tasks
        for prepared in _prepare(ctx, task, task.shots if shots is None else task.shots and shots)
    ]


def _prepare(ctx: EvalContext, task: ShortTask, shots: int) -> list[PreparedTask]:
    rows = read_examples(ctx, task, "")
    pool = read_examples(ctx, task, "_fewshot") if shots else []
    if task.name != "mmlu":
        return [_check_pool(PreparedTask(task.name, task, rows, pool, shots))]
    by_subject, pools = rows_by_subject(rows), rows_by_subject(pool)
    if len(by_subject) != SUBJECTS:
        logging.warning("short/mmlu.jsonl has %d subjects of %d: this is not MMLU", len(by_subject), SUBJECTS)
    return [
        _check_pool(PreparedTask(f"mmlu_{subject}", task, part, pools.get(subject, []), shots))
        for subject, part in sorted(by_subject.items())
    ]


def read_examples(ctx: EvalContext, task: ShortTask, suffix: str) -> list[Record]:
    """Return the rows of a file, with the task's fields alone. Raises ValueError if none can be used."""
    path = ctx.find_file([f"short/{task.file}{suffix}.jsonl"], task.description(bool(suffix)), task.source)
    good, _ = ctx.read_jsonl(path, task.fields, reason=task.row_error)
    return [{name: row[name] for name in task.fields} for row in good]


def rows_by_subject(rows: Sequence[Record]) -> dict[str, list[Record]]:
    """Group rows of MMLU."""
    groups = collections.defaultdict(list)
    for row in rows:
        groups[str(row[SUBJECT])].append(row)
    return groups


def _check_pool(prepared: PreparedTask) -> PreparedTask:
    needed = prepared.task.pool_size(prepared.shots)
    if len(prepared.pool) < needed:
        raise ValueError(
            f"short/{prepared.task.file}_fewshot.jsonl has {len(prepared.pool)} examples for {prepared.name} and "
            f"{needed} are drawn: add some, or set a smaller --short_fewshot"
        )
    return prepared


def rows_sha256(prepared: Sequence[PreparedTask]) -> str:
    """Return the SHA-256 of all rows."""
    return fingerprint_json([[task.name, task.rows, task.pool] for task in prepared])


def write_tasks(prepared: Sequence[PreparedTask], folder: pathlib.Path, lm_eval_tasks: pathlib.Path) -> None:
    """Write rows and yamls to a folder; `lm_eval_tasks` is the folder of lm_eval's tasks."""
    for task in prepared:
        source = lm_eval_tasks / task.yaml
        if not source.exists():
            raise ValueError(f"--short_tasks: lm_eval has no task {task.name} ({source})")
        yaml = _yaml(task, folder, source)
        (folder / f"{task.name}.yaml").write_text(
            "".join(f"{key}: {json.dumps(value)}\n" for key, value in yaml.items())
        )


def _yaml(prepared: PreparedTask, folder: pathlib.Path, source: pathlib.Path) -> Record:
    """-> the fields of a task's yaml, each of which is written as JSON, a subset of YAML."""
    files = {prepared.task.split: _write_rows(folder / f"{prepared.name}.jsonl", prepared.rows)}
    if prepared.shots:
        files["examples"] = _write_rows(folder / f"{prepared.name}_fewshot.jsonl", prepared.pool)
    return {
        "include": str(source), "task": prepared.name, "tag": None, "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "datasets")},
        "num_fewshot": prepared.shots,
        **dict.fromkeys(prepared.task.pool, "examples" if prepared.shots else prepared.task.split),
    }  # fmt: skip


def _write_rows(path: pathlib.Path, rows: Sequence[Record]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
