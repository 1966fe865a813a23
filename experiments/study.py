"""The controlled study: every method on one base, one plan, one recipe, one set of evaluators; then the report.

  python -m experiments.study --preset=mini --run_dir=runs/demo            six and a half minutes on two cores
  python -m experiments.study --preset=llama2_7b --base_dir=... --text_dir=...

It can be interrupted at any time; the same command goes on from there.
"""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import multiprocessing
import os
import pathlib
import signal
import threading
from typing import Any

import jax

from longjax import cli, flags, job, launch, report
from longjax.launch import Place
from longjax.methods import METHODS, Method
from longjax.progress import Board, Report
from longjax.workspace import Workspace

BASE, TRAINED, FROZEN = 16.0, 9.0, 3.0  # what they cost, relative to each other


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is studied."""

    methods: str = "all"  # or names joined by commas

    def names(self, preset_methods: tuple[str, ...]) -> tuple[str, ...]:
        names = preset_methods if self.methods == "all" else tuple(self.methods.split(","))
        for name in names:
            if name not in METHODS:
                raise ValueError(f"--methods={self.methods}: {name} is unknown{job.suggestion(name, METHODS)}")
        return names


asked, choice = job.define(), flags.define(Choice)


def main() -> None:
    _, space, at = asked()
    if at.mesh or at.export_dir or at.init_from:
        raise ValueError("the study runs methods side by side on one device: for a mesh, run experiments.<method>")
    settings = space.preset.settings
    methods = {name: METHODS[name](**settings.get(name, {})) for name in choice().names(space.preset.methods)}
    print("text to tokens ...", flush=True)
    cli.prepare(space)
    print(f"{space.store().manifest['tokens']:,} tokens in {space.folder}", flush=True)
    for name, method in methods.items():
        cli.seal_method(space, name, method)
    shares = {name: TRAINED if method.trained else FROZEN for name, method in methods.items()}
    run_all(space, methods, at, Board(shares if space.base_dir else {"base": BASE} | shares))
    print(f"\n{report.write(space.folder)}\n\nreport and plots: {space.folder}/report.md")


def run_all(space: Workspace, methods: dict[str, Method], at: Place, board: Board) -> None:
    """The base on all cores, then the methods side by side."""
    cache = (space.folder / "compiled").absolute()
    events: Any = multiprocessing.get_context("spawn").Queue()
    threading.Thread(target=follow, args=(events, board), daemon=True).start()
    if not space.base_dir:
        with pool(1, events, cache) as workers:
            finish([workers.submit(make_base, space, at)])
    with pool(space.preset.workers, events, cache) as workers:
        order = sorted(methods, key=lambda name: not methods[name].trained)  # the long ones first
        finish([workers.submit(make_method, space, name, methods[name], at) for name in order])


def finish(jobs: list[concurrent.futures.Future]) -> None:
    """Waits for all; the first that fails, or Ctrl-C, ends the others, which lose at most what was not yet saved."""
    try:
        for done in concurrent.futures.as_completed(jobs):
            done.result()
    except BaseException as error:
        for child in multiprocessing.active_children():
            child.kill()
        if isinstance(error, concurrent.futures.process.BrokenProcessPool):
            raise ValueError("a worker was killed, perhaps for lack of memory; the same command goes on") from error
        raise


def pool(workers: int, events: Any, cache: pathlib.Path) -> concurrent.futures.ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    return concurrent.futures.ProcessPoolExecutor(workers, context, begin, (events, counter, workers, cache))


def begin(events: Any, counter: Any, workers: int, cache: pathlib.Path) -> None:
    """In a new worker: takes its share of the cores, a line to the board, and what others have compiled."""
    global tell
    tell = events.put
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::workers] or cores)


def teller(name: str) -> Report:
    return lambda fraction, doing: tell((name, fraction, doing))


def make_base(space: Workspace, at: Place) -> None:
    launch.base_params(space, teller("base"), at)


def make_method(space: Workspace, name: str, method: Method, at: Place) -> None:
    launch.run(space, name, method, teller(name), at)


def follow(events: Any, board: Board) -> None:
    while True:
        board.update(*events.get())


if __name__ == "__main__":
    cli.start(main)
