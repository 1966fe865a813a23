"""Arms of a study side by side: a process each, with its share of the cores, or of a GPU's memory."""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from longjax.pools import process_pool
from longjax.progress import MultiProgress, ProgressFn
from longjax.study import runner
from longjax.study.arms import Arm
from longjax.study.runner import RunConfig
from longjax.study.workspace import Workspace

GPU_MEMORY = 0.85  # of each, for all its workers together; beside it each takes half a GiB for itself


@dataclasses.dataclass(frozen=True)
class PretrainJob:
    """The base of a study."""

    space: Workspace
    at: RunConfig
    cost = 16.0  # relative to others

    @property
    def name(self) -> str:
        return f"{prefix(self.space)}base model"

    def __call__(self, report: ProgressFn) -> None:
        runner.base_params(self.space, report, self.at)


@dataclasses.dataclass(frozen=True)
class ArmJob:
    """One arm of a study, from its base to its records."""

    space: Workspace
    arm: Arm
    at: RunConfig

    @property
    def name(self) -> str:
        return f"{prefix(self.space)}{self.arm.name}"

    @property
    def cost(self) -> float:
        return 9.0 if self.arm.trained else 3.0

    def __call__(self, report: ProgressFn) -> None:
        runner.run_arm(self.space, self.arm, report, self.at)


def prefix(space: Workspace) -> str:
    return f"{space.seed_folder.name}/" if space.preset.seeds > 1 else ""


Job = PretrainJob | ArmJob


class Slot(NamedTuple):
    """What a worker gets: a share of the cores, and of one GPU if there are any."""

    cores: tuple[int, ...]
    gpu: str | None
    memory: float


@dataclasses.dataclass(frozen=True, eq=False)
class WorkerPool:
    """Workers.

    Attributes:
      workers: processes, on each GPU if there are any.
      cache: folder of compiled programs, which all share.
      board: what is told of their progress.

    """

    workers: int
    cache: pathlib.Path
    board: MultiProgress

    def run(self, jobs: Sequence[Job], alone: bool = False) -> None:
        """Waits for all, in this order. `alone`: each has a device, or all cores, to itself."""
        if not jobs:
            return
        gpus = visible_gpus()
        each = 1 if alone else self.workers
        slots = memory_shares(min(len(jobs), each * max(1, len(gpus))), gpus, GPU_MEMORY / each)
        context = multiprocessing.get_context("spawn")
        events: Any = context.Queue()
        threading.Thread(target=self.follow, args=(events,), daemon=True).start()
        free: Any = context.Queue()
        for slot in slots:
            free.put(slot)
        with process_pool(len(slots), init_worker, events, free, self.cache) as pool:
            wait_all([pool.submit(run_job, job) for job in jobs])

    def follow(self, events: Any) -> None:
        while True:
            self.board.update(*events.get())


def visible_gpus() -> list[str]:
    """-> names of NVIDIA GPUs as CUDA_VISIBLE_DEVICES has them; asked for in a process that ends and frees them."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    with process_pool(1) as pool:
        count = pool.submit(count_gpus).result()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(i) for i in range(count)]


def count_gpus() -> int:
    return jax.local_device_count() if jax.default_backend() == "gpu" else 0


def memory_shares(count: int, gpus: list[str], memory: float) -> list[Slot]:
    """-> what each of so many workers gets."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [Slot(tuple(cores[i::count]), gpus[i % len(gpus)] if gpus else None, memory) for i in range(count)]


def wait_all(jobs: list[concurrent.futures.Future]) -> None:
    """Waits for all. One that fails leaves the others alone; Ctrl-C ends all, which lose what was not yet saved."""
    try:
        failed = [error for done in concurrent.futures.as_completed(jobs) if (error := done.exception())]
    except BaseException:  # Ctrl-C
        for child in multiprocessing.active_children():
            child.kill()
        raise
    for error in failed:
        if isinstance(error, concurrent.futures.process.BrokenProcessPool):
            raise ValueError("a worker was killed, perhaps for lack of memory; the same command goes on") from error
        raise error


def init_worker(events: Any, free: Any, cache: pathlib.Path) -> None:
    """In a new worker, before it touches a device."""
    global send_progress
    send_progress = events.put
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    slot: Slot = free.get()
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{slot.memory:.3f}"
    if slot.cores:
        os.sched_setaffinity(0, slot.cores)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def run_job(job: Job) -> None:
    job(lambda fraction, doing: send_progress((job.name, fraction, doing)))


send_progress: Any = None
