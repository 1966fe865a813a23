"""Samples made on all cores: thousands of long ones take minutes on one."""

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import TooShortError
from longjax.pools import process_pool
from longjax.progress import ThroughputProgress

WORTH = 30_000_000  # tokens; less is made before processes have started
Job = tuple[int, str]  # length and task
Make = Callable[[str, int, RulerInputs], object]  # must be known by name in a new process


def on_all_cores(make: Make, material: EvalContext, jobs: Sequence[Job], samples: int) -> None:
    """Calls make(task, length, kit) for every job, each in one of as many processes as there are cores.

    What a length is too short for is left to the caller to find.
    """
    total = samples * sum(length for length, _ in jobs)
    if total < WORTH or (cores := os.cpu_count() or 1) < 2:
        return
    given = {name: value for name, value in vars(material).items() if name != "tokenizer"}
    report, done = ThroughputProgress("samples of RULER", total, "tokens"), 0
    with process_pool(min(cores, len(jobs)), init_process, material.tokenizer.path, given) as pool:
        running = {pool.submit(make_sample, make, *job): job for job in sorted(jobs, reverse=True)}  # the longest first
        for future in concurrent.futures.as_completed(running):
            future.result()
            length, task = running[future]
            done += samples * length
            report(done / total, f"{task} at {length}")


def init_process(tokenizer: os.PathLike, given: dict[str, Any]) -> None:
    """In a new process."""
    global kit
    kit = RulerInputs(EvalContext(tokenizer=Tokenizer(tokenizer, threads=1), **given))


def make_sample(make: Make, length: int, task: str) -> None:
    with contextlib.suppress(TooShortError):
        make(task, length, kit)
