"""Makes samples on all cores, since thousands of long ones take minutes on one."""

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Sequence

from longjax.evals.context import EvalContext
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import TooShortError
from longjax.pools import process_pool
from longjax.progress import ThroughputProgress

MIN_TOKENS = 30_000_000  # fewer are made before processes have started
Cell = tuple[int, str]  # length and task
MakeSamples = Callable[[str, int, RulerInputs], object]  # must be picklable


def make_on_all_cores(make: MakeSamples, ctx: EvalContext, cells: Sequence[Cell], samples: int) -> None:
    """Call make(task, length, inputs) for every cell, in as many processes as there are cores.

    Does nothing if there is too little to do. TooShortError is ignored: the caller will meet it again.

    Args:
      make: makes the samples of a cell and writes them.
      ctx: of the inputs.
      cells: lengths and tasks.
      samples: of each cell.

    """
    total = samples * sum(length for length, _ in cells)
    if total < MIN_TOKENS or (cores := os.cpu_count() or 1) < 2:
        return
    progress, done = ThroughputProgress("samples of RULER", total, "tokens"), 0
    with process_pool(min(cores, len(cells)), init_process, ctx) as pool:
        running = {pool.submit(make_cell, make, *cell): cell for cell in sorted(cells, reverse=True)}  # longest first
        for future in concurrent.futures.as_completed(running):
            future.result()
            length, task = running[future]
            done += samples * length
            progress(done / total, f"{task} at {length}")


def init_process(ctx: EvalContext) -> None:
    """Set the inputs of a new process."""
    global inputs
    inputs = RulerInputs(ctx)


def make_cell(make: MakeSamples, length: int, task: str) -> None:
    """Make the samples of a cell in a process, if its length is not too short."""
    with contextlib.suppress(TooShortError):
        make(task, length, inputs)
