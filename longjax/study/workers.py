"""Runs the jobs of a study side by side: a process each, with its share of the cores or of a GPU's memory."""

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

GPU_MEMORY = 0.85  # share of each GPU for all its workers; beside it, each takes half a GiB


@dataclasses.dataclass(frozen=True)
class PretrainJob:
    """The pretraining of a study's base."""

    workspace: Workspace
    run_config: RunConfig
    cost = 16.0  # relative to other jobs

    @property
    def name(self) -> str:
        """Shown in progress lines."""
        return f"{_seed_prefix(self.workspace)}base model"

    def __call__(self, report: ProgressFn) -> None:
        """Pretrains the base."""
        runner.base_params(self.workspace, report, self.run_config)


@dataclasses.dataclass(frozen=True)
class ArmJob:
    """One arm of a study, from the base to its records."""

    workspace: Workspace
    arm: Arm
    run_config: RunConfig

    @property
    def name(self) -> str:
        """Shown in progress lines."""
        return f"{_seed_prefix(self.workspace)}{self.arm.name}"

    @property
    def cost(self) -> float:
        """Relative to other jobs."""
        return 9.0 if self.arm.trained else 3.0

    def __call__(self, report: ProgressFn) -> None:
        """Runs the arm."""
        runner.run_arm(self.workspace, self.arm, report, self.run_config)


def _seed_prefix(workspace: Workspace) -> str:
    return f"{workspace.seed_folder.name}/" if workspace.preset.seeds > 1 else ""


Job = PretrainJob | ArmJob


class Slot(NamedTuple):
    """The resources of a worker.

    Attributes:
      cores: numbers of its cores; empty: all.
      gpu: its GPU, as CUDA_VISIBLE_DEVICES names it; None: there is none.
      memory: its share of that GPU's memory.

    """

    cores: tuple[int, ...]
    gpu: str | None
    memory: float


@dataclasses.dataclass(frozen=True, eq=False)
class WorkerPool:
    """Runs jobs in worker processes.

    Attributes:
      workers: number of processes, on each GPU if there are any.
      cache: folder of compiled programs, which all workers share.
      progress: shows the progress of all jobs, by their names.

    """

    workers: int
    cache: pathlib.Path
    progress: MultiProgress

    def run(self, jobs: Sequence[Job], alone: bool = False) -> None:
        """Starts the jobs in this order and waits for all of them.

        Args:
          jobs: to run.
          alone: whether each job has a GPU, or all cores, to itself.

        Raises:
          ValueError: a worker was killed.
          Exception: the first error of a job, after all jobs have ended.

        """
        if not jobs:
            return
        gpus = visible_gpus()
        per_device = 1 if alone else self.workers
        slots = make_slots(min(len(jobs), per_device * max(1, len(gpus))), gpus, GPU_MEMORY / per_device)
        context = multiprocessing.get_context("spawn")
        events: Any = context.Queue()
        threading.Thread(target=self._show_progress, args=(events,), daemon=True).start()
        free_slots: Any = context.Queue()
        for slot in slots:
            free_slots.put(slot)
        with process_pool(len(slots), init_worker, events, free_slots, self.cache) as pool:
            wait_all([pool.submit(run_job, job) for job in jobs])

    def _show_progress(self, events: Any) -> None:
        while True:
            self.progress.update(*events.get())


def visible_gpus() -> list[str]:
    """Returns the NVIDIA GPUs as CUDA_VISIBLE_DEVICES names them. A short-lived process counts them and frees them."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    with process_pool(1) as pool:
        count = pool.submit(_count_gpus).result()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(i) for i in range(count)]


def _count_gpus() -> int:
    return jax.local_device_count() if jax.default_backend() == "gpu" else 0


def make_slots(count: int, gpus: list[str], memory: float) -> list[Slot]:
    """Returns `count` slots that share the cores; if there are GPUs, each has the share `memory` of one of them."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [Slot(tuple(cores[i::count]), gpus[i % len(gpus)] if gpus else None, memory) for i in range(count)]


def wait_all(futures: list[concurrent.futures.Future]) -> None:
    """Waits for all jobs, also if one fails; then raises its error. Ctrl-C kills all workers at once."""
    try:
        errors = [error for done in concurrent.futures.as_completed(futures) if (error := done.exception())]
    except BaseException:  # Ctrl-C
        for child in multiprocessing.active_children():
            child.kill()
        raise
    for error in errors:
        if isinstance(error, concurrent.futures.process.BrokenProcessPool):
            raise ValueError(
                "a worker was killed, perhaps for lack of memory: run the same command again, with fewer --workers"
            ) from error
        raise error


def init_worker(events: Any, free_slots: Any, cache: pathlib.Path) -> None:
    """Takes a slot and restricts this new process to it, before JAX sees a device."""
    global send_progress
    send_progress = events.put
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    slot: Slot = free_slots.get()
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{slot.memory:.3f}"
    if slot.cores:
        os.sched_setaffinity(0, slot.cores)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def run_job(job: Job) -> None:
    """Runs a job in a worker; its progress goes to the parent."""
    job(lambda fraction, doing: send_progress((job.name, fraction, doing)))


send_progress: Any = None
