"""Metrics of a run: one JSON object a step in metrics.jsonl; optionally TensorBoard and wandb."""

import importlib
import json
import math
import pathlib
from typing import Any, Protocol

from longjax import files
from longjax.files import sha256_bytes

NAME = "metrics.jsonl"


class Sink(Protocol):
    """Another place that metrics are written to, beside the file."""

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        """Writes the metrics of a step."""
        ...

    def close(self) -> None:
        """Writes what is buffered."""
        ...


class MetricsWriter:
    """Writes the metrics of one run, as a context manager. Numbers that are not finite are written as null.

    A resumed run removes the lines at or after its first step that a killed run has left, so that the file has every
    step once.

    Args:
      folder: of metrics.jsonl.
      tensorboard: also write TensorBoard's event files.
      wandb: project of Weights & Biases to log to; None: none.
      resume_at: first step of this run.

    Raises:
      ValueError: a package that a flag needs is not installed, or the file has a line that is no step's metrics.

    """

    def __init__(
        self, folder: pathlib.Path, tensorboard: bool = False, wandb: str | None = None, *, resume_at: int = 0
    ):
        self.path = folder / NAME
        self.sinks: list[Sink] = []
        if tensorboard:
            self.sinks.append(TensorBoard(folder, resume_at))
        if wandb:
            self.sinks.append(Wandb(folder, wandb))
        truncate_from(self.path, resume_at)
        self.file = self.path.open("ab", buffering=0)  # a kill tears one line at most

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        line = (
            json.dumps({"step": step} | {name: to_json_number(x) for name, x in numbers.items()}, allow_nan=False)
            + "\n"
        )
        try:
            complete = self.file.write(line.encode()) == len(line)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written: {error.strerror or error}") from error
        if not complete:
            raise ValueError(f"{self.path} cannot be written: the disk is full")
        for sink in self.sinks:
            sink(step, numbers)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        for sink in self.sinks:
            sink.close()


def to_json_number(x: float) -> float | None:
    """Returns a number that JSON can hold: None if it is not finite."""
    if isinstance(x, int):
        return x
    return float(x) if math.isfinite(x) else None


def truncate_from(path: pathlib.Path, resume_at: int) -> None:
    """Removes the lines of step `resume_at` and later, and an incomplete last line, from a file of metrics."""
    old = path.read_bytes() if path.exists() else b""
    lines = [line for line in old.splitlines(keepends=True) if line.endswith(b"\n")]  # a kill may cut the last
    new = b"".join(line for i, line in enumerate(lines) if parse_line(line, path, i)["step"] < resume_at)
    if new != old or not path.exists():
        files.write_atomically(path, new)


def parse_line(line: bytes, path: pathlib.Path, i: int) -> dict[str, Any]:
    """Returns the metrics of line `i`, from 0. Raises ValueError, naming file and line, if it holds none."""
    try:
        numbers = json.loads(line)
        int(numbers["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: line {i + 1} is no step's metrics: delete this line") from error
    return numbers


def read_metrics(folder: pathlib.Path) -> list[dict[str, float]]:
    """Returns the metrics of every step of a run, NaN for null, without an incomplete last line.

    Args:
      folder: of the run.

    Raises:
      ValueError: the folder has no metrics.jsonl, or a line is no step's metrics.

    """
    path = folder / NAME
    if not path.exists():
        raise ValueError(f"{path} does not exist: is {folder} the folder of a training run?")
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    numbers = [parse_line(line, path, i) for i, line in enumerate(lines)]
    return [{name: math.nan if x is None else x for name, x in step.items()} for step in numbers]


def import_optional(module: str, flag: str) -> Any:
    """Returns a module of an optional package. Raises ValueError, naming the flag, if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"--{flag} needs a package that is not installed: pip install {module}") from error


class TensorBoard:
    """TensorBoard's event files in the folder `tensorboard`; a resumed run hides later steps of a killed one."""

    def __init__(self, folder: pathlib.Path, resume_at: int):
        writer = import_optional("tensorboardX", "tensorboard").SummaryWriter
        self.writer = writer(str(folder / "tensorboard"), purge_step=resume_at)

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        for name, x in numbers.items():
            if math.isfinite(x):  # for others it prints a warning each
                self.writer.add_scalar(name, x, step)

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of a project of Weights & Biases, identified by its folder, so that a resumed run continues it."""

    def __init__(self, folder: pathlib.Path, project: str):
        path = str(folder.absolute())
        wandb = import_optional("wandb", "wandb")
        self.run = wandb.init(project=project, name=folder.name, dir=path, id=sha256_bytes(path)[:16], resume="allow")

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        self.run.log(numbers, step=step)

    def close(self) -> None:
        self.run.finish()
