"""Runs short tasks, from the user's files to records; requests answered before a crash are not run again."""

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
from longjax.evals.harness.offline import PreparedTask, prepare_tasks, rows_sha256, write_tasks
from longjax.evals.harness.scoring import sample_records
from longjax.evals.records import MANIFEST, RECORDS, write_or_check
from longjax.evals.requests import Record, RequestFn
from longjax.progress import ProgressFn, no_progress

ANSWERS = "answers_rank0.db"  # lm_eval adds "_rank0.db" to the name that it is given
MIN_VERSION = (0, 4, 12)  # older ones read task files differently
FEWSHOT_SEED = 1234  # lm_eval's own, for --seed=0


@dataclasses.dataclass(frozen=True)
class ShortTasks:
    """Short tasks of lm_eval."""

    short_tasks: str = "openllm"  # tasks of lm_eval, or groups of them: comma-separated names
    short_fewshot: int | None = None  # examples before each question; the published number if unset

    def __post_init__(self) -> None:
        if self.short_fewshot is not None and self.short_fewshot < 0:
            raise ValueError(f"--short_fewshot={self.short_fewshot} must be 0 or more")
        tasks_by_name(self.short_tasks)

    @property
    def tasks(self) -> list[ShortTask]:
        """The tasks that --short_tasks lists."""
        return tasks_by_name(self.short_tasks)


def prepare_short_tasks(ctx: EvalContext, settings: ShortTasks) -> list[PreparedTask]:
    """Return the tasks with their rows. Raises ValueError if lm_eval or files are missing."""
    import_lm_eval()
    return prepare_tasks(ctx, settings.tasks, settings.short_fewshot)


def short_manifest(ctx: EvalContext, prepared: Sequence[PreparedTask], max_length: int) -> Record:
    """Return all that makes the requests what they are."""
    settings = {
        "lm_eval": importlib.metadata.version("lm_eval"), "tasks": {task.name: task.shots for task in prepared},
        "data_sha256": rows_sha256(prepared), "seed": FEWSHOT_SEED + ctx.seed, "most": ctx.max_examples,
        "bos": ctx.tokenizer.bos_id >= 0, "max_length": max_length,
    }  # fmt: skip
    return {"task": "short", "settings": settings, "n": sum(len(task.rows[: ctx.max_examples]) for task in prepared)}


def run_short_tasks(
    model: RequestFn,
    ctx: EvalContext,
    settings: ShortTasks,
    folder: pathlib.Path,
    max_length: int,
    writes: bool = True,
    progress: ProgressFn = no_progress,
) -> None:
    """Run the tasks on a model, and write folder/records.jsonl at the end, atomically.

    Args:
      model: the model under test.
      ctx: names the files.
      settings: the tasks.
      folder: of these tasks and this model alone; answers_rank0.db in it holds the answers so far.
      max_length: limit of the tokens of a prompt with its answer.
      writes: whether this host writes; of several hosts with the same responses, one does.
      progress: called with the share of a task that is done.

    Raises:
      ValueError: lm_eval or files are missing, the folder is of another run, or it cannot be written.

    """
    prepared = prepare_short_tasks(ctx, settings)
    write_or_check(folder / MANIFEST, short_manifest(ctx, prepared, max_length), writes)
    if (folder / RECORDS).exists():
        return
    from longjax.evals.harness.adapter import HarnessModel

    adapter = HarnessModel(model, ctx.tokenizer, max_length - 1, progress)  # the last token is scored, and not read
    records = answer_tasks(adapter, ctx, prepared, folder, writes)
    if writes:
        lines = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        files.write_atomically(folder / RECORDS, lines.encode())


def answer_tasks(
    model: Any, ctx: EvalContext, prepared: Sequence[PreparedTask], folder: pathlib.Path, writes: bool
) -> list[Record]:
    """Return the records of all tasks, in order. `model` is a HarnessModel."""
    lm_eval = import_lm_eval()
    with tempfile.TemporaryDirectory() as temporary, explain_sqlite_errors(folder):
        write_tasks(prepared, pathlib.Path(temporary), pathlib.Path(lm_eval.__file__).parent / "tasks")
        results = lm_eval.simple_evaluate(
            model=model,
            tasks=[task.name for task in prepared],
            task_manager=lm_eval.tasks.TaskManager(include_path=temporary, include_defaults=False),
            use_cache=str(answers_path(folder, pathlib.Path(temporary), writes)),
            limit=ctx.max_examples,
            bootstrap_iters=0,
            fewshot_random_seed=FEWSHOT_SEED + ctx.seed,
        )
    samples = results["samples"]
    return [r for t in prepared for r in sample_records(t.name, t.task, samples[t.name], model.measure)]


@contextlib.contextmanager
def explain_sqlite_errors(folder: pathlib.Path) -> Iterator[None]:
    """Turn an error of the file of answers, which may be torn or have no room, into ValueError with the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise ValueError(f"{folder / ANSWERS}: {error}; make room, or delete it to run its requests again") from error


def answers_path(folder: pathlib.Path, temporary: pathlib.Path, writes: bool) -> pathlib.Path:
    """Return the path of the answers for lm_eval. Raises sqlite3.DatabaseError if they are torn.

    Hosts that do not write start from a copy, so that all run the same remaining requests. The copy is made before the
    first new answer, which needs all hosts, so that nothing is written meanwhile.
    """
    if not writes:
        for path in folder.glob(f"{ANSWERS}*"):
            shutil.copy(path, temporary)
        folder = temporary
    if (folder / ANSWERS).exists():
        with contextlib.closing(sqlite3.connect(folder / ANSWERS)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
    return folder / ANSWERS.removesuffix("_rank0.db")


def is_installed() -> bool:
    """Whether lm_eval is installed."""
    return importlib.util.find_spec("lm_eval") is not None


def import_lm_eval() -> Any:
    """Import lm_eval, set to work offline. Raises ValueError if it is missing or too old."""
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
