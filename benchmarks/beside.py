"""Ours and a peer beside each other: the same work, on the same machine, in the same call.

A benchmark is a list of cases. Each is a process of its own, so that memory is given back, a crash costs one case and
a time limit holds; it prints a row as soon as that is measured, and the results are written after every case.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from absl import flags

from longjax import files

TINY = flags.DEFINE_bool("tiny", False, "Sizes for a CPU: shows that everything runs.")
OUT = flags.DEFINE_string("out", None, "Results without their suffix, .json and .md; none: results/benchmarks/<name>.")
BUDGET = flags.DEFINE_float("budget", 480.0, "Seconds for all cases; those that are left are then skipped.")
ONLY = flags.DEFINE_list("only", [], "Run the cases whose line (as printed) holds one of these words.")

Row = dict[str, Any]
MARK = "ROW "  # in front of what a case measured, among all else that libraries print
LEAST = 10.0  # seconds, below which no case is begun
PACKAGES = ("jax", "jaxlib", "torch", "transformers", "triton", "nvidia-cudnn-cu13", "nvidia-nccl-cu13")
JAX = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.94"}  # surroundings of a case: one process has the whole card
TORCH = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TOKENIZERS_PARALLELISM": "false"}


@dataclasses.dataclass(frozen=True)
class Case:
    """What one process measures: `python -m benchmarks.<program> '<about, as JSON>'`, at most so many seconds."""

    program: str
    about: Row
    seconds: float
    env: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.program} " + " ".join(f"{name}={value}" for name, value in self.about.items())


class Bar(NamedTuple):
    """What is asked for. `values` say what was measured, by where; the worst of them counts."""

    what: str
    bound: float
    values: dict[str, float]
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if not self.values:
            return "not measured"
        worst = max(self.values.values()) if self.at_most else min(self.values.values())
        return "reached" if (worst <= self.bound if self.at_most else worst >= self.bound) else "NOT REACHED"

    def line(self) -> list[str]:
        ordered = sorted(self.values.items(), key=lambda item: item[1], reverse=self.at_most)  # the worst first
        said = [f"{value:.3g} ({where})" for where, value in ordered]
        found = ", ".join(said) if len(said) < 5 else f"{said[0]} to {said[-1]}"
        return [self.what, f"{'<=' if self.at_most else '>='} {self.bound:g}", found, self.verdict]


class Page(NamedTuple):
    """How the rows of a benchmark are shown."""

    name: str
    title: str
    about: str  # what is measured, in a few sentences
    header: Sequence[str]
    lines: Callable[[list[Row]], list[list[str]]]
    bars: Callable[[list[Row]], list[Bar]]


def case_main(measure: Callable[..., Iterable[Row]]) -> None:
    """The main of a program that measures one case."""
    for row in measure(**json.loads(sys.argv[1])):
        print(MARK + json.dumps(row), flush=True)


@contextlib.contextmanager
def tried(row: Row) -> Iterator[None]:
    """What fails is said in the row; the case goes on."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def run(case: Case, seconds: float) -> list[Row]:
    """-> what its process measured until it ended or its time was up."""
    command = [sys.executable, "-m", f"benchmarks.{case.program}", json.dumps(case.about)]
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, stdout=said, env={**os.environ, **case.env}, start_new_session=True)
        try:
            code = child.wait(seconds)
            why = f"ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            why = f"stopped after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # and whatever it has started
            child.wait()
        said.seek(0)
        lines = [line for line in said if line.startswith(MARK) and line.endswith("\n")]
    rows = [json.loads(line.removeprefix(MARK)) for line in lines] + ([{"error": why}] if why else [])
    return [{"program": case.program, **case.about, **row} for row in rows]


def play(page: Page, cases: Sequence[Case]) -> list[Row]:
    """Runs the cases one after the other, the most important first, and writes and prints what they measured."""
    began, rows, machine_now = time.monotonic(), [], machine()
    out = OUT.value or ("" if TINY.value else f"results/benchmarks/{page.name}")
    for case in cases:
        if ONLY.value and not any(word in str(case) for word in ONLY.value):
            continue
        left, start = BUDGET.value - (time.monotonic() - began), time.monotonic()
        skipped = {"program": case.program, **case.about, "error": f"skipped: --budget={BUDGET.value:g} was used up"}
        new = run(case, min(case.seconds, left)) if left > LEAST else [skipped]
        rows += new
        failed = [row["error"] for row in new if "error" in row]
        print(f"# {case}: {time.monotonic() - start:.0f} s {'; '.join(failed)}", flush=True)
        if out:
            save(pathlib.Path(out), page, rows, machine_now)
    print(markdown(page, rows, machine_now), flush=True)
    return rows


def save(out: pathlib.Path, page: Page, rows: list[Row], machine_now: dict[str, str]) -> None:
    bars = [bar._asdict() | {"verdict": bar.verdict} for bar in page.bars(rows)]
    everything = {"benchmark": page.name, "command": command(), "machine": machine_now, "bars": bars, "rows": rows}
    files.write(out.with_name(out.name + ".json"), (json.dumps(everything, indent=1) + "\n").encode())
    files.write(out.with_name(out.name + ".md"), markdown(page, rows, machine_now).encode())


def markdown(page: Page, rows: list[Row], machine_now: dict[str, str]) -> str:
    missing = [[row["program"], shown(row), row["error"]] for row in rows if "error" in row]
    parts = [
        f"# {page.title}", page.about, f"`{command()}` on " + ", ".join(f"{k} {v}" for k, v in machine_now.items()),
        table(page.header, page.lines(rows)),
        "## Bars", table(("what", "bar", "measured", "verdict"), [bar.line() for bar in page.bars(rows)]),
    ]  # fmt: skip
    parts += ["## Not measured", table(("program", "case", "why"), missing)] if missing else []
    return "\n\n".join(parts) + "\n"


def shown(row: Row) -> str:
    return " ".join(f"{name}={value}" for name, value in row.items() if name not in ("program", "error"))


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """-> a table of Markdown that is one of plain text as well."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = [header, ["-" * width for width in widths], *lines]
    return "\n".join("| " + " | ".join(f"{x:<{w}}" for x, w in zip(row, widths, strict=True)) + " |" for row in rows)


def command() -> str:
    module = pathlib.Path(sys.argv[0]).stem
    return " ".join(["python -m", f"benchmarks.{module}", *sys.argv[1:]])


def machine() -> dict[str, str]:
    """-> where this was measured: devices, driver, versions, date."""
    cards = gpus()
    name, driver = cards[0].split(", ") if cards else (processor(), "none")
    found = {"machine": f"{len(cards)} x {name}" if cards else name, "driver": driver}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}


def gpus() -> list[str]:
    """-> name and driver of each."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    return []


def processor() -> str:
    cpu = pathlib.Path("/proc/cpuinfo")
    said = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in said if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, no GPU"


def the(rows: list[Row], /, **about: Any) -> Row:
    """-> the row about this; an empty one if it was not measured."""
    return next((row for row in rows if "error" not in row and about.items() <= row.items()), {})


def settings_of(line: str) -> tuple[str, Row]:
    """-> of "jax:length=32768,remat=qkv" the framework, and the settings with their numbers as such."""
    framework, _, settings = line.partition(":")
    if framework not in ("jax", "torch"):
        raise ValueError(f'--cases: "{line}" must begin with jax: or torch:')
    pairs = (setting.split("=", 1) for setting in settings.split(",") if setting)
    return framework, {name: number_of(value) for name, value in pairs}


def number_of(text: str) -> Any:
    return int(text) if text.isdigit() else float(text) if text.replace(".", "", 1).isdigit() else text


def ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None


def number(x: float | None, digits: int = 2) -> str:
    return "" if x is None else f"{x:.{digits}f}"


def thousands(length: int) -> str:
    return f"{length // 1024}K" if length % 1024 == 0 else str(length)


def seconds_of(work: Callable[[], Any], wait: Callable[[Any], Any], enough: float = 0.2) -> float:
    """-> the median of three times of `work`, each of so many calls that they take about `enough` seconds."""

    def taken(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls - 1):
            work()
        wait(work())
        return (time.perf_counter() - start) / calls

    for _ in range(2):  # compile, warm up
        wait(work())
    calls = max(1, min(100, int(enough / max(taken(1), 1e-5))))
    return sorted(taken(calls) for _ in range(3))[1]
