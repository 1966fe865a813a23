"""lm_eval's own tasks on the user's files: copies of the rows, and a yaml a task that includes the one shipped."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence

from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.harness.catalog import SUBJECT, ShortTask
from longjax.evals.longbench.examples import line_of
from longjax.evals.requests import Record
from longjax.files import fingerprint_json

SUBJECTS = 57  # of MMLU


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """One task as lm_eval will run it.

    Attributes:
      name: of lm_eval; MMLU has one a subject.
      task: what it is one of.
      rows: that are evaluated.
      pool: rows that examples are taken from.
      shots: examples before each question.

    """

    name: str
    task: ShortTask
    rows: Sequence[Record]
    pool: Sequence[Record]
    shots: int

    @property
    def yaml(self) -> str:
        return self.task.yaml.format(subject=self.name.removeprefix("mmlu_"))


def prepare_tasks(material: EvalContext, tasks: Sequence[ShortTask], shots: int | None) -> list[Prepared]:
    """-> the tasks with their rows. Raises ValueError that names what is missing and where to get it.

    `shots`: instead of the published numbers; TruthfulQA's prompt has its own examples and gets no others.
    """
    return [one for task in tasks for one in _of(material, task, task.shots if shots is None else task.shots and shots)]


def _of(material: EvalContext, task: ShortTask, shots: int) -> list[Prepared]:
    rows = read_examples(material, task, "")
    pool = read_examples(material, task, "_fewshot") if shots else []
    if task.name != "mmlu":
        return [_enough(Prepared(task.name, task, rows, pool, shots))]
    by_subject, pools = grouped(rows), grouped(pool)
    if len(by_subject) != SUBJECTS:
        logging.warning("short/mmlu.jsonl has %d subjects of %d: this is not MMLU", len(by_subject), SUBJECTS)
    return [
        _enough(Prepared(f"mmlu_{subject}", task, part, pools.get(subject, []), shots))
        for subject, part in sorted(by_subject.items())
    ]


def read_examples(material: EvalContext, task: ShortTask, which: str) -> list[Record]:
    """-> rows with the task's fields and no others."""
    path = material.find_file([f"short/{task.file}{which}.jsonl"], task.said(bool(which)), task.source)
    rows, _ = material.read_jsonl(path, task.fields)
    good = [row for row in rows if usable(material, path, row, task.fault(row))]
    if not good:
        raise ValueError(f"{path}: no line can be used")
    return [{name: row[name] for name in task.fields} for row in good]


def usable(material: EvalContext, path: pathlib.Path, row: Record, fault: str | None) -> bool:
    if fault is None:
        return True
    said = f"{path}, line {line_of(path, row)}: {fault}"
    if not material.skip_bad:
        raise ValueError(f"{said} (--skip_bad leaves such lines out)")
    logging.warning("%s; left out", said)
    return False


def grouped(rows: Sequence[Record]) -> dict[str, list[Record]]:
    found = collections.defaultdict(list)
    for row in rows:
        found[str(row[SUBJECT])].append(row)
    return found


def _enough(one: Prepared) -> Prepared:
    if len(one.pool) < one.task.pool_size(one.shots):
        raise ValueError(
            f"short/{one.task.file}_fewshot.jsonl has {len(one.pool)} examples for {one.name} and "
            f"{one.task.pool_size(one.shots)} are drawn: add some, or say a smaller --short_fewshot"
        )
    return one


def content(prepared: Sequence[Prepared]) -> str:
    """-> sha256 of all rows."""
    return fingerprint_json([[one.name, one.rows, one.pool] for one in prepared])


def write_tasks(prepared: Sequence[Prepared], folder: pathlib.Path, shipped: pathlib.Path) -> None:
    """Writes rows and yamls; `shipped` is the folder of lm_eval's tasks."""
    for one in prepared:
        source = shipped / one.yaml
        if not source.exists():
            raise ValueError(f"--short_tasks: lm_eval has no task {one.name} ({source})")
        yaml = _yaml(one, folder, source)
        (folder / f"{one.name}.yaml").write_text(
            "".join(f"{key}: {json.dumps(value)}\n" for key, value in yaml.items())
        )


def _yaml(one: Prepared, folder: pathlib.Path, source: pathlib.Path) -> Record:
    """JSON is YAML."""
    files = {one.task.split: _rows(folder / f"{one.name}.jsonl", one.rows)}
    if one.shots:
        files["examples"] = _rows(folder / f"{one.name}_fewshot.jsonl", one.pool)
    return {
        "include": str(source), "task": one.name, "tag": None, "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "datasets")}, "num_fewshot": one.shots,
        **dict.fromkeys(one.task.pool, "examples" if one.shots else one.task.split),
    }  # fmt: skip


def _rows(path: pathlib.Path, rows: Sequence[Record]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
