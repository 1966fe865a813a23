"""Ours and a peer beside each other: the same work, on the same machine, in the same call.

A benchmark is a list of cases. Each is a process of its own, so that memory is given back, a crash costs one case and
a time limit holds; it prints a row as soon as that is measured, and the results are written after every case.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from absl import app

from benchmarks.machine import machine
from benchmarks.page import Page, Row, markdown, write
from longjax.cli.flags import define

MARK = "ROW "  # in front of a row, among all else that libraries print
PR_SET_PDEATHSIG = 1  # as prctl.h has it
MIN_SECONDS = 10.0  # below which no case is started
JAX = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.94"}  # environment of a case: one process has the whole card
TORCH = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TOKENIZERS_PARALLELISM": "false"}

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Terms:
    """Options that all benchmarks share."""

    tiny: bool = False  # sizes for a CPU: shows that everything runs
    out: str | None = None  # results, without their .json and .md; None: results/benchmarks/<name>
    budget: float = 480.0  # seconds for all cases; those that are left are then skipped
    only: str | None = None  # run the cases whose line, as printed, holds one of these words, joined by commas

    def wants(self, case: "Case") -> bool:
        return self.only is None or any(word in str(case) for word in self.only.split(","))

    def folder(self, name: str) -> pathlib.Path | None:
        """-> where results go, without suffix; None: nowhere."""
        path = self.out or ("" if self.tiny else f"results/benchmarks/{name}")
        return pathlib.Path(path) if path else None


@dataclasses.dataclass(frozen=True)
class Case:
    """What one process measures: `python -m benchmarks.<program> '<about, as JSON>'`, in at most `seconds`."""

    program: str
    about: Row
    seconds: float
    env: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.program} " + " ".join(f"{name}={value}" for name, value in self.about.items())

    def row(self, measured: Row) -> Row:
        return {"case": str(self), "program": self.program, **self.about, **measured}


def main(benchmark: Callable[[Terms, S], Any], sizes: type[S]) -> None:
    """Run a benchmark with a flag for each of its sizes; a user's mistake ends with one line."""
    terms, sizes_of_flags = define(Terms), define(sizes)

    def run(argv: list[str]) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `run` ends its case first
        try:
            if len(argv) > 1:
                raise ValueError(f"unknown argument {argv[1]}: flags begin with --")
            benchmark(terms(), sizes_of_flags())
        except ValueError as error:
            raise SystemExit(f"error: {error}") from error

    app.run(run)


def die_with_parent() -> None:
    """Have Linux kill the calling process when the one that started it ends, however that ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def case_main(measure: Callable[..., Iterable[Row]]) -> None:
    """Run a program that measures one case: the arguments are JSON, each row is printed when it is measured."""
    for row in measure(**json.loads(sys.argv[1])):
        print(MARK + json.dumps(row), flush=True)


@contextlib.contextmanager
def tried(row: Row) -> Iterator[None]:
    """Record a failure in the row and go on."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def play(page: Page, cases: Sequence[Case], terms: Terms) -> list[Row]:
    """Run the cases one after the other, the most important first; write and print what they measured."""
    start_of_all, rows, where = time.monotonic(), [], (command(), machine())
    out = terms.folder(page.name)
    for case in filter(terms.wants, cases):
        left, start = terms.budget - (time.monotonic() - start_of_all), time.monotonic()
        skipped = case.row({"error": f"skipped: --budget={terms.budget:g} was used up"})
        new = run(case, min(case.seconds, left)) if left > MIN_SECONDS else [skipped]
        rows += new
        failed = "; ".join(row["error"] for row in new if "error" in row)
        print(f"# {case}: {time.monotonic() - start:.0f} s {failed}", flush=True)
        write(page, rows, where, out)
    print(markdown(page, rows, *where), flush=True)
    return rows


def run(case: Case, seconds: float) -> list[Row]:
    """Run a case in a process of its own.

    Returns:
      its rows until it ended or its time was up; the last one has the "error", if any.

    """
    arguments = [sys.executable, "-m", f"benchmarks.{case.program}", json.dumps(case.about)]
    with tempfile.TemporaryFile("w+") as output:
        env, bound = {**os.environ, **case.env}, die_with_parent
        child = subprocess.Popen(arguments, stdout=output, env=env, start_new_session=True, preexec_fn=bound)
        try:
            code = child.wait(seconds)
            why = f"ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            why = f"stopped after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # and whatever it has started
            child.wait()
        output.seek(0)
        lines = [line for line in output if line.startswith(MARK) and line.endswith("\n")]
    rows = [json.loads(line.removeprefix(MARK)) for line in lines] + ([{"error": why}] if why else [])
    return [case.row(row) for row in rows]


def command() -> str:
    """Return the command line of this process."""
    module = pathlib.Path(sys.argv[0]).stem
    return " ".join(["python -m", f"benchmarks.{module}", *sys.argv[1:]])


def settings_of(line: str) -> tuple[str, Row]:
    """Parse "jax:length=32768,remat=qkv" into the framework and its settings."""
    framework, _, settings = line.partition(":")
    pairs = [setting.partition("=") for setting in settings.split(",") if setting]
    if framework not in ("jax", "torch") or not all(sign for _, sign, _ in pairs):
        raise ValueError(f'--cases: "{line}" is not of the form jax:name=value,name=value (or torch:...)')
    return framework, {name: number_of(value) for name, _, value in pairs}


def number_of(text: str) -> Any:
    """Return an integer, a float, or the text itself."""
    return int(text) if text.isdigit() else float(text) if text.replace(".", "", 1).isdigit() else text


def seconds_of(work: Callable[[], Any], wait: Callable[[Any], Any], enough: float = 0.1) -> float:
    """Return the median of three times of `work`, each the mean of as many calls as take about `enough` seconds."""

    def seconds_a_call(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls - 1):
            work()
        wait(work())
        return (time.perf_counter() - start) / calls

    for _ in range(2):  # compile, warm up
        wait(work())
    calls = max(1, min(100, int(enough / max(seconds_a_call(1), 1e-5))))
    return sorted(seconds_a_call(calls) for _ in range(3))[1]
