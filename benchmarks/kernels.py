"""The time of a GPU by kind of kernel, from JAX's profiler."""

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.beside import tried
from benchmarks.page import Row

Milliseconds = collections.Counter[str]  # of kernels, by name

# The first that fits a kernel's name, as cuDNN, NCCL, cuBLAS and XLA write them.
KINDS = {
    "attention": r"cudnn|fmha|flash|attend|attention|_dq|_dkv",
    "collectives": r"nccl|all_gather|all-gather|reduce_scatter|all_reduce|all_to_all",
    "products": r"gemm|nvjet|cutlass|xmma|cublas|dot",
    "copies": r"memcpy|copy|transpose|dynamic_update_slice|dynamic_slice|concatenate",
}
OTHERS = "all else"
NAMED = 12  # kernels of a row by name


def kind(name: str) -> str:
    """Return the kind of a kernel by its name."""
    return next((kind for kind, names in KINDS.items() if re.search(names, name.lower())), OTHERS)


def profiled(measure: Callable[[], Milliseconds]) -> Row:
    """Return a row with the time of each kind of kernel, or with the error."""
    row: Row = {}
    with tried(row):
        row |= summary(measure())
    return row


def kernels(work: Callable[[], Any]) -> Milliseconds:
    """Return the milliseconds of each kernel, by name, that the first GPU ran for `work`; empty without a GPU."""
    total, options = Milliseconds(), jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            jax.block_until_ready(work())
        for path in pathlib.Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                if plane.name.endswith("GPU:0"):
                    add(total, plane)
    return total


def add(total: Milliseconds, plane: Any) -> None:
    """Add up the streams of a device; its other lines repeat the same time by operation and module."""
    for line in plane.lines:
        if line.name.startswith("Stream"):
            for event in line.events:
                total[event.name] += event.duration_ns / 1e6


def summary(ms: Milliseconds) -> Row:
    """Return milliseconds by kind, and of the longest kernels. Streams overlap: the sum may exceed the time."""
    by_kind = Milliseconds()
    for name, time in ms.items():
        by_kind[kind(name)] += time
    longest = {name[:80]: round(time, 2) for name, time in ms.most_common(NAMED)}
    return {"by_kind_ms": {k: round(v, 2) for k, v in by_kind.most_common()}, "kernels_ms": longest}
