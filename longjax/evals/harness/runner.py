"""Short tasks, from the user's files to records; what was answered before a crash is not asked again."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from longjax import files
from longjax.evals.context import EvalContext
from longjax.evals.harness.catalog import ShortTask, tasks_by_name
from longjax.evals.harness.offline import Prepared, content, prepare_tasks, write_tasks
from longjax.evals.harness.scoring import sample_records
from longjax.evals.records import MANIFEST, RECORDS, write_or_check
from longjax.evals.requests import Record, RequestFn
from longjax.progress import ProgressFn, no_progress

ANSWERS = "answers_rank0.db"  # lm_eval adds the end of this name
MIN_VERSION = (0, 4, 12)  # older ones read task files in other ways
FEWSHOT_SEED = 1234  # lm_eval's own, for --seed=0


@dataclasses.dataclass(frozen=True)
class ShortTasks:
    short_tasks: str = "openllm"  # short tasks of lm_eval, or a group of them: names joined by commas
    short_fewshot: int | None = None  # examples before each question of a short task; the published number if unset

    def __post_init__(self) -> None:
        if self.short_fewshot is not None and self.short_fewshot < 0:
            raise ValueError(f"--short_fewshot={self.short_fewshot} must be 0 or more")
        tasks_by_name(self.short_tasks)

    @property
    def tasks(self) -> list[ShortTask]:
        return tasks_by_name(self.short_tasks)


def ready(material: EvalContext, settings: ShortTasks) -> list[Prepared]:
    """-> the tasks, before anything is asked. Raises ValueError for what is missing: the package, or files."""
    harness()
    return prepare_tasks(material, settings.tasks, settings.short_fewshot)


def short_manifest(material: EvalContext, prepared: Sequence[Prepared], max_length: int) -> Record:
    """-> all that makes the questions what they are."""
    settings = {
        "lm_eval": importlib.metadata.version("lm_eval"), "tasks": {one.name: one.shots for one in prepared},
        "data_sha256": content(prepared), "seed": FEWSHOT_SEED + material.seed, "most": material.max_examples,
        "bos": material.tokenizer.bos_id >= 0, "max_length": max_length,
    }  # fmt: skip
    return {"task": "short", "settings": settings, "n": sum(len(one.rows[: material.max_examples]) for one in prepared)}


def run_short_tasks(
    ask: RequestFn,
    material: EvalContext,
    settings: ShortTasks,
    folder: pathlib.Path,
    max_length: int,
    writes: bool = True,
    tell: ProgressFn = no_progress,
) -> None:
    """Puts the tasks to the model; writes folder/records.jsonl at the end, whole.

    Args:
      ask: the model.
      material: what the questions are made of.
      settings: which tasks.
      folder: of these tasks and this model alone. answers_rank0.db in it holds what was answered so far.
      max_length: tokens of a question with its answer, at most.
      writes: of several hosts that get the same answers, one.
      tell: how far it is.

    """
    prepared = ready(material, settings)
    write_or_check(folder / MANIFEST, short_manifest(material, prepared, max_length), writes)
    if (folder / RECORDS).exists():
        return
    from longjax.evals.harness.adapter import HarnessModel

    model = HarnessModel(ask, material.tokenizer, max_length - 1, tell)  # the last token is scored, and not read
    records = answer_tasks(model, material, prepared, folder, writes)
    if writes:
        lines = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        files.write_atomically(folder / RECORDS, lines.encode())


def answer_tasks(
    model: Any, material: EvalContext, prepared: Sequence[Prepared], folder: pathlib.Path, writes: bool
) -> list[Record]:
    """-> the records of all tasks, in their order. `model` is an Adapter."""
    lm_eval = harness()
    with tempfile.TemporaryDirectory() as made, one_line(folder):
        write_tasks(prepared, pathlib.Path(made), pathlib.Path(lm_eval.__file__).parent / "tasks")
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=[one.name for one in prepared],
            task_manager=lm_eval.tasks.TaskManager(include_path=made, include_defaults=False),
            use_cache=str(read_answers(folder, pathlib.Path(made), writes)),
            limit=material.max_examples,
            bootstrap_iters=0,
            fewshot_random_seed=FEWSHOT_SEED + material.seed,
        )
    samples = found["samples"]
    return [r for one in prepared for r in sample_records(one.name, one.task, samples[one.name], model.measure)]


@contextlib.contextmanager
def one_line(folder: pathlib.Path) -> Iterator[None]:
    """Says what to do about answers on disk that are torn, or have no room."""
    try:
        yield
    except sqlite3.Error as error:
        raise ValueError(
            f"{folder / ANSWERS}: {error}; make room, or delete it and its questions are asked again"
        ) from error


def read_answers(folder: pathlib.Path, own: pathlib.Path, writes: bool) -> pathlib.Path:
    """-> where lm_eval keeps answers. Hosts that do not write start from a copy, so that all ask for the same rest.

    The copy is made before the first answer, which needs all hosts, so that nothing is written meanwhile.
    """
    if not writes:
        for path in folder.glob(f"{ANSWERS}*"):
            shutil.copy(path, own)
        folder = own
    if (folder / ANSWERS).exists():
        with contextlib.closing(sqlite3.connect(folder / ANSWERS)) as held:
            (said,) = held.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(said)
    return folder / ANSWERS.removesuffix("_rank0.db")


def installed() -> bool:
    return importlib.util.find_spec("lm_eval") is not None


def harness() -> Any:
    """-> the package lm_eval, told to stay offline."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    try:
        import lm_eval.tasks  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("--tasks=short needs lm-evaluation-harness: pip install longjax[harness]") from error
    version = importlib.metadata.version("lm_eval")
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < MIN_VERSION:
        raise ValueError(f"--tasks=short needs a newer lm_eval than {version}: pip install -U longjax[harness]")
    return lm_eval
