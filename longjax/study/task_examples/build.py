"""Makes drills of a data directory, on all cores, and writes them once."""

import contextlib
import itertools
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.ruler.inputs import RulerInputs
from longjax.pools import process_pool
from longjax.study.task_examples.answers import solved
from longjax.study.task_examples.dataset import SolvedTask, save_examples
from longjax.study.task_examples.generators import GENERATORS, GeneratorContext

TASKS = tuple(GENERATORS)
CHUNK = 32  # drills of a job
ALONE = 2_000_000  # tokens that are made before other processes have started


class BuildJob(NamedTuple):
    """`size` drills. They depend on these numbers and the material alone."""

    task: str
    length: int
    number: int
    size: int


Run = Callable[[Iterable[BuildJob]], Iterator[list[SolvedTask]]]


def write_examples(folder: str | os.PathLike, material: EvalContext, tokens: int, tasks: Sequence[str] = TASKS) -> None:
    """Writes about so many tokens of drills, as many of each length, and of each task that fits into a length.

    Args:
      folder: to write.
      material: of text, questions and a seed that no evaluation has; its lengths are those of drills, at most.
      tokens: of all drills.
      tasks: to practise.

    """
    if unknown := [task for task in tasks if task not in GENERATORS]:
        raise ValueError(f"drills: no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    cells = [*itertools.product(tasks, sorted(material.lengths))]
    budget = tokens // len(material.lengths)
    with runner(material, tokens) as run:
        firsts = [
            BuildJob(task, length, 0, min(CHUNK, max(1, budget // len(tasks) // length))) for task, length in cells
        ]
        made = dict(zip(cells, run(firsts), strict=True))
        fitting = {cell: drills for cell, drills in made.items() if drills}
        if not fitting:
            raise ValueError(f"drills: lengths {', '.join(map(str, material.lengths))} are too short for all tasks")
        more = [job for cell in fitting for job in rest(cell, fitting, budget)]
        for job, drills in zip(more, run(more), strict=True):
            fitting[job.task, job.length] += drills
    for length in sorted(material.lengths):
        if left_out := [task for task in tasks if (task, length) not in fitting]:
            logging.info("drills of %d tokens have no room for %s", length, ", ".join(left_out))
    save_examples(pathlib.Path(folder), [*fitting.values()], material.tokenizer.vocab, with_context(fitting, material))


def rest(cell: tuple[str, int], fitting: dict[tuple[str, int], list[SolvedTask]], budget: int) -> Iterator[BuildJob]:
    """-> what a cell lacks of its share of the tokens of its length."""
    task, length = cell
    held = sum(len(drill.ids) for drill in fitting[cell])
    missing = budget // sum(other == length for _, other in fitting) - held
    count = round(missing * len(fitting[cell]) / held)
    for number, start in enumerate(range(0, count, CHUNK), 1):
        yield BuildJob(task, length, number, min(CHUNK, count - start))


def with_context(fitting: dict[tuple[str, int], list[SolvedTask]], material: EvalContext) -> dict[str, Any]:
    """-> how they were made, and how many there are."""
    cells = [
        {
            "task": task, "length": length, "drills": len(drills), "tokens": sum(len(x.ids) for x in drills),
            "answers": sum(len(x.ids) - x.answer for x in drills),
        }
        for (task, length), drills in fitting.items()
    ]  # fmt: skip
    return {"seed": material.seed, "tokenizer": material.tokenizer.sha256, "cells": cells}


@contextlib.contextmanager
def runner(material: EvalContext, tokens: int) -> Iterator[Run]:
    """Gives what does jobs, in their order: on all cores, or here if there is little to do."""
    cores = os.cpu_count() or 1
    if tokens < ALONE or cores < 2:
        desk = GeneratorContext(RulerInputs(material))
        yield lambda jobs: (done(desk, job) for job in jobs)
        return
    given = {name: value for name, value in vars(material).items() if name != "tokenizer"}
    with process_pool(cores, init_process, material.tokenizer.path, given) as pool:
        yield lambda jobs: pool.map(here, jobs)


def init_process(tokenizer: os.PathLike, given: dict[str, Any]) -> None:
    """In a new process."""
    global own
    own = GeneratorContext(RulerInputs(EvalContext(tokenizer=Tokenizer(tokenizer, threads=1), **given)))


def here(job: BuildJob) -> list[SolvedTask]:
    return done(own, job)


def done(desk: GeneratorContext, job: BuildJob) -> list[SolvedTask]:
    material = desk.material
    seeds = (material.seed, zlib.crc32(job.task.encode()), job.length, job.number)
    asked = GENERATORS[job.task](desk, job.length, job.size, np.random.default_rng(seeds))
    small = np.uint16 if material.tokenizer.vocab <= 2**16 else np.uint32  # less to send between processes
    drills = (solved(question, material.tokenizer) for question in asked)
    return [SolvedTask(drill.ids.astype(small), drill.answer) for drill in drills]
