"""What a run says of itself: a JSON object a step in metrics.jsonl; if asked, TensorBoard and wandb too."""

import importlib
import json
import math
import pathlib
from typing import Any, Protocol

from longjax import files
from longjax.files import sha256_bytes

NAME = "metrics.jsonl"


class Sink(Protocol):
    """Where numbers go beside the file."""

    def __call__(self, step: int, numbers: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class MetricsWriter:
    """The log of one run, for `with`. A number that is not finite is written as null.

    A resumed run cuts what a killed one had logged at or after `resume_at`, so that the file has every step once.
    """

    def __init__(
        self, folder: pathlib.Path, tensorboard: bool = False, wandb: str | None = None, *, resume_at: int = 0
    ):
        """`wandb` is a project's name. Raises ValueError, naming the flag, if what was asked for is not installed."""
        self.path = folder / NAME
        makers = [TensorBoard] * tensorboard + ([Wandb] if wandb else [])
        self.sinks: list[Sink] = [make(folder, resume_at, wandb or "") for make in makers]
        truncate_from(self.path, resume_at)
        self.file = self.path.open("ab", buffering=0)  # a kill tears one line at most

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        line = (
            json.dumps({"step": step} | {name: to_json_number(x) for name, x in numbers.items()}, allow_nan=False)
            + "\n"
        )
        try:
            whole = self.file.write(line.encode()) == len(line)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written: {error.strerror or error}") from error
        if not whole:
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
    """-> as JSON has it: integers as they are, what is not finite as None."""
    if isinstance(x, int):
        return x
    return float(x) if math.isfinite(x) else None


def truncate_from(path: pathlib.Path, resume_at: int) -> None:
    """Leaves the whole lines of the steps before `resume_at`. The file changes at once or not at all."""
    old = path.read_bytes() if path.exists() else b""
    lines = [line for line in old.splitlines(keepends=True) if line.endswith(b"\n")]  # a kill may tear the last
    new = b"".join(line for i, line in enumerate(lines) if parse_line(line, path, i)["step"] < resume_at)
    if new != old or not path.exists():
        files.write_atomically(path, new)


def parse_line(line: bytes, path: pathlib.Path, i: int) -> dict[str, Any]:
    try:
        numbers = json.loads(line)
        int(numbers["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: line {i + 1} is no step's numbers: delete this line") from error
    return numbers


def read_metrics(folder: pathlib.Path) -> list[dict[str, float]]:
    """-> the numbers of every step, NaN for null. A torn last line is left out: the run may be going on."""
    path = folder / NAME
    if not path.exists():
        raise ValueError(f"{path} does not exist: is {folder} the folder of a training run?")
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    numbers = [parse_line(line, path, i) for i, line in enumerate(lines)]
    return [{name: math.nan if x is None else x for name, x in step.items()} for step in numbers]


def import_optional(module: str, flag: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"--{flag} needs a package that is not installed: pip install {module}") from error


class TensorBoard:
    """Event files in the folder `tensorboard`; those of a killed run are hidden from the resumed step on."""

    def __init__(self, folder: pathlib.Path, resume_at: int, project: str):
        writer = import_optional("tensorboardX", "tensorboard").SummaryWriter
        self.writer = writer(str(folder / "tensorboard"), purge_step=resume_at)

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        for name, x in numbers.items():
            if math.isfinite(x):  # others it would complain of, for every one
                self.writer.add_scalar(name, x, step)

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of the project that is known by its folder, so that a resumed run goes on in it."""

    def __init__(self, folder: pathlib.Path, resume_at: int, project: str):
        where = str(folder.absolute())
        identity = sha256_bytes(where)[:16]
        wandb = import_optional("wandb", "wandb")
        self.run = wandb.init(project=project, name=folder.name, dir=where, id=identity, resume="allow")

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        self.run.log(numbers, step=step)

    def close(self) -> None:
        self.run.finish()
