"""Pools of worker processes that end with their parent, even if it is killed."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable
from typing import Any


def process_pool(
    workers: int, init_worker: Callable[..., None] | None = None, *args: Any
) -> concurrent.futures.ProcessPoolExecutor:
    """Returns a pool of spawned processes; none of them outlives this one.

    Args:
      workers: number of processes.
      init_worker: a function of a module, called with `args` in every process before its first job.
      *args: of `init_worker`; they are pickled.

    """
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (init_worker, args))


def _start_worker(init_worker: Callable[..., None] | None, args: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if init_worker:
        init_worker(*args)


def _end_with_parent() -> None:
    """Ends a worker whose parent is gone: it would wait for ever, or write beside the run that is started anew."""
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
