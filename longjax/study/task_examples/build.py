"""Builds task examples from a data directory, on all cores, and writes them."""

import contextlib
import itertools
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.ruler.inputs import RulerInputs
from longjax.pools import process_pool
from longjax.study.task_examples.answers import solve
from longjax.study.task_examples.dataset import SolvedTask, save_examples
from longjax.study.task_examples.generator_context import GeneratorContext
from longjax.study.task_examples.generators import GENERATORS

TASKS = tuple(GENERATORS)
CHUNK = 32  # examples per job
MIN_TOKENS = 2_000_000  # fewer are built before processes have started

Cell = tuple[str, int]  # task and length
Examples = dict[Cell, list[SolvedTask]]


class BuildJob(NamedTuple):
    """A chunk of examples, which depend on these numbers and the context alone.

    Attributes:
      task: a key of GENERATORS.
      length: maximum length in tokens.
      number: of the chunk in its task and length.
      size: number of examples.

    """

    task: str
    length: int
    number: int
    size: int


RunJobs = Callable[[Iterable[BuildJob]], Iterator[list[SolvedTask]]]


def write_examples(folder: str | os.PathLike, ctx: EvalContext, tokens: int, tasks: Sequence[str] = TASKS) -> None:
    """Writes task examples: as many tokens of each length, and within a length of each task that fits into it.

    Args:
      folder: to write.
      ctx: text, questions and a seed that no test uses; its lengths are the maximum lengths of examples.
      tokens: of all examples, about.
      tasks: keys of GENERATORS.

    Raises:
      ValueError: a task is unknown, or all lengths are too short for all tasks.

    """
    if unknown := [task for task in tasks if task not in GENERATORS]:
        raise ValueError(f"task examples: there is no task {unknown[0]!r}, only {', '.join(TASKS)}")
    cells = [*itertools.product(tasks, sorted(ctx.lengths))]
    budget = tokens // len(ctx.lengths)
    with job_runner(ctx, tokens) as run_jobs:
        first = [
            BuildJob(task, length, 0, min(CHUNK, max(1, budget // len(tasks) // length))) for task, length in cells
        ]
        examples = dict(zip(cells, run_jobs(first), strict=True))
        examples = {cell: solved for cell, solved in examples.items() if solved}
        if not examples:
            raise ValueError(f"task examples: lengths {', '.join(map(str, ctx.lengths))} are too short for all tasks")
        more = [job for cell in examples for job in remaining_jobs(cell, examples, budget)]
        for job, solved in zip(more, run_jobs(more), strict=True):
            examples[job.task, job.length] += solved
    for length in sorted(ctx.lengths):
        if left_out := [task for task in tasks if (task, length) not in examples]:
            logging.info("no task examples of %d tokens for %s: too short", length, ", ".join(left_out))
    save_examples(pathlib.Path(folder), [*examples.values()], ctx.tokenizer.vocab, describe(examples, ctx))


def remaining_jobs(cell: Cell, examples: Examples, budget: int) -> Iterator[BuildJob]:
    """Yields the jobs that fill a cell's share of the tokens of its length, given the size of its first examples."""
    task, length = cell
    tokens = sum(len(solved.ids) for solved in examples[cell])
    missing = budget // sum(other == length for _, other in examples) - tokens
    count = round(missing * len(examples[cell]) / tokens)
    for number, start in enumerate(range(0, count, CHUNK), 1):
        yield BuildJob(task, length, number, min(CHUNK, count - start))


def describe(examples: Examples, ctx: EvalContext) -> dict[str, Any]:
    """Returns seed, tokenizer and counts for the manifest."""
    cells = [
        {
            "task": task, "length": length, "drills": len(cell), "tokens": sum(len(solved.ids) for solved in cell),
            "answers": sum(len(solved.ids) - solved.answer_start for solved in cell),
        }
        for (task, length), cell in examples.items()
    ]  # fmt: skip
    return {"seed": ctx.seed, "tokenizer": ctx.tokenizer.sha256, "cells": cells}


@contextlib.contextmanager
def job_runner(ctx: EvalContext, tokens: int) -> Iterator[RunJobs]:
    """Yields a function that runs jobs in order: on all cores, or in this process if there is little to do."""
    cores = os.cpu_count() or 1
    if tokens < MIN_TOKENS or cores < 2:
        generator_context = GeneratorContext(RulerInputs(ctx))
        yield lambda jobs: (build_examples(generator_context, job) for job in jobs)
        return
    with process_pool(cores, _init_worker, ctx) as pool:
        yield lambda jobs: pool.map(_run_in_worker, jobs)


def build_examples(generator_context: GeneratorContext, job: BuildJob) -> list[SolvedTask]:
    """Builds the examples of a job; some may be missing if they do not fit."""
    ctx = generator_context.ctx
    rng = np.random.default_rng((ctx.seed, zlib.crc32(job.task.encode()), job.length, job.number))
    requests = GENERATORS[job.task](generator_context, job.length, job.size, rng)
    dtype = np.uint16 if ctx.tokenizer.vocab <= 2**16 else np.uint32  # less to send between processes
    solved = (solve(request, ctx.tokenizer) for request in requests)
    return [SolvedTask(task.ids.astype(dtype), task.answer_start) for task in solved]


def _init_worker(ctx: EvalContext) -> None:
    global worker_context
    worker_context = GeneratorContext(RulerInputs(ctx))


def _run_in_worker(job: BuildJob) -> list[SolvedTask]:
    return build_examples(worker_context, job)
