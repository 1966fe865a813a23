"""Tokens a second that one core reads from a memory-mapped store, as rows: at least a hundred million.

Seconds are those of the core, which on a shared machine others use too; wall time stands beside.

python -m benchmarks.read_store --tokens=100000000

The store is made in a temporary folder, with documents of which half are shorter than a thousand tokens, as on the
web. Prints a line of JSON a way of packing.
"""

import json
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from absl import app, flags

from longjax import data
from longjax.data.store_ledger import Layout, Ledger
from longjax.data.store_writer import EncodedDocument, write_shards

TOKENS = flags.DEFINE_integer("tokens", 100_000_000, "Tokens of the store.")
LENGTH = flags.DEFINE_integer("length", 32_768, "Tokens of a row.")
SECONDS = flags.DEFINE_float("seconds", 3.0, "How long to read.")
VOCAB = 32_000


def documents(tokens: int) -> Iterator[EncodedDocument]:
    """Yield documents of random tokens, of lengths as on the web."""
    rng, row = np.random.default_rng(0), 0
    ids = rng.integers(0, VOCAB, 2**20, np.uint16)
    while tokens > 0:
        size = int(np.clip(rng.lognormal(np.log(1000), 1.2), 10, len(ids)))
        at = int(rng.integers(0, len(ids) - size + 1))
        yield EncodedDocument(f"web:{row}", "web", 0, row, ids[at : at + size])
        tokens, row = tokens - size, row + 1


def rates(plan: data.Plan, seconds: float) -> tuple[int, int]:
    """Return tokens a second of the core and of wall time, in batches of eight; all rows are read once before."""
    for first in range(0, len(plan), 8):
        plan(first, 8)
    core, wall, rows = time.process_time(), time.perf_counter(), 0
    while time.perf_counter() - wall < seconds:
        plan(rows, 8)
        rows += 8
    tokens = rows * plan.length
    return round(tokens / (time.process_time() - core)), round(tokens / (time.perf_counter() - wall))


def machine() -> str:
    """Describe this machine."""
    cpu = pathlib.Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"


def main(argv: list[str]) -> None:
    """Build a store and measure each way of packing."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        layout = Layout(("web",), "none", VOCAB, held_out=0.0)
        store = write_shards(path, Ledger(path, layout), documents(TOKENS.value))
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        documents_selected = data.select(store, data.Rule())
        packings = {
            "concat": (data.Concat(), False),
            "masked": (data.Concat(), True),
            "best_fit": (data.BestFit(), True),
        }
        for name, (algorithm, doc_mask) in packings.items():
            plan = data.pack(store, documents_selected, algorithm, LENGTH.value, doc_mask)
            spans = len(plan.spans.size) / len(plan)
            core, wall = rates(plan, SECONDS.value)
            row = {"way": name, "tokens_per_s": core, "by_the_wall": wall, "spans_a_row": round(spans, 1)}
            print(json.dumps(row | {"length": plan.length, "tokens": TOKENS.value, "machine": machine()}), flush=True)


if __name__ == "__main__":
    app.run(main)
