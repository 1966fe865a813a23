"""RULER's thirteen tasks at the lengths of --lengths (Hsieh et al. 2024, arXiv:2404.06654)."""

import dataclasses
import itertools
import operator
import pathlib
from collections.abc import Iterator
from typing import Literal

from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.requests import Record, Task
from longjax.evals.ruler import sample_store
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import FittedSample, TooShortError
from longjax.evals.ruler.parallel import make_on_all_cores
from longjax.evals.ruler.sample import SampleSeed
from longjax.evals.ruler.versions import BASES, VERSIONS, RulerTask, make_task

TRIES = 20  # draws of which one must fit, or the length is too short
FILL = 0.95  # share of a length; samples that fill less are counted in the log


@dataclasses.dataclass(frozen=True)
class Ruler:
    """RULER by version, task and length."""

    ruler_version: Literal["exact", "main", "2024"] = "exact"  # ours; RULER's main branch; as in the study
    ruler_tasks: str = "all"  # all 13, or comma-separated names
    ruler_samples: int = 500  # samples of a task and length
    ruler_cache: str | None = None  # folder for the samples; ruler_cache in --data_dir if unset

    @property
    def names(self) -> list[str]:
        """The tasks that --ruler_tasks lists. Raises ValueError for unknown ones."""
        listed = BASES if self.ruler_tasks == "all" else (name.strip() for name in self.ruler_tasks.split(","))
        names = list(dict.fromkeys(listed))
        if unknown := [name for name in names if name not in BASES]:
            raise ValueError(f"--ruler_tasks={self.ruler_tasks}: no task {unknown[0]!r}; there are {', '.join(BASES)}")
        return names

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Return the tasks, whose samples are on disk then.

        Lengths that are too short for a task are left out with a warning. Raises ValueError if nothing is left.
        """
        if self.ruler_samples < 1:
            raise ValueError(f"--ruler_samples={self.ruler_samples} must be at least 1")
        inputs, tasks, short = RulerInputs(ctx), [], []
        cells = list(itertools.product(ctx.lengths, self.names))
        missing = [(length, name) for length, name in cells if not self.path(name, length, inputs).exists()]
        make_on_all_cores(self.task, ctx, missing, self.num_samples(ctx))
        for length, name in cells:
            try:
                tasks.append(self.task(name, length, inputs))
            except TooShortError as error:
                short.append((length, name, error))
        for length, group in itertools.groupby(short, key=operator.itemgetter(0)):
            names = ", ".join(name for _, name, _ in group)
            logging.warning("--lengths=%d is too short for %s: left out", length, names)
        if short and not tasks:
            raise short[0][2]
        return tasks

    def task(self, name: str, length: int, inputs: RulerInputs) -> Task:
        """Return one task; its samples are made if they are not on disk. Raises TooShortError."""
        ctx = inputs.ctx
        task = make_task(VERSIONS[self.ruler_version], name, length, ctx.seed, inputs)
        count = min(self.num_samples(ctx), task.maker.num_samples)
        settings = {
            "version": self.ruler_version, "seed": ctx.seed, "prompts": inputs.named_prompts[1],
            "tokenizer_sha256": ctx.tokenizer.sha256, **task.settings,
        }  # fmt: skip
        path = self.path(name, length, inputs)
        samples = sample_store.load_samples(path, settings, count)
        if samples is None:
            samples = sample_store.write_samples(path, settings, count, sample_rows(task, name, count, ctx.seed))
        settings |= {"samples": samples.count, "data_sha256": samples.sha256}
        requests = sample_store.SampleRequests(samples, inputs.counter, task.room.max_new_tokens)
        return Task(f"ruler/{length}/{name}", requests, settings)

    def num_samples(self, ctx: EvalContext) -> int:
        """Return the number of samples of a task and length."""
        return min(self.ruler_samples, ctx.max_examples or self.ruler_samples)

    def path(self, name: str, length: int, inputs: RulerInputs) -> pathlib.Path:
        """Return the path of the samples of a task and length."""
        ctx = inputs.ctx
        root = pathlib.Path(self.ruler_cache) if self.ruler_cache else ctx.data_dir / "ruler_cache"
        parts = (self.ruler_version, inputs.named_prompts[1][:12], ctx.tokenizer.sha256[:12], str(ctx.seed))
        return root / "-".join(parts) / str(length) / f"{name}.jsonl"


def sample_rows(task: RulerTask, name: str, count: int, seed: int) -> Iterator[Record]:
    """Yield samples as they are stored. Raises TooShortError if none of the first fits."""
    sample_seeds = [SampleSeed(seed, name, i) for i in range(min(task.maker.num_samples, 2 * count + TRIES))]
    room, fits, done, low = task.room, task.sizing(task.maker, task.room, sample_seeds), 0, 0
    for sample_seed, fit in zip(sample_seeds, fits, strict=True):
        if fit is None and not done and sample_seed.index + 1 >= min(TRIES, len(sample_seeds)):
            raise TooShortError(f"--lengths={room.length} is too short for {name} with this tokenizer")
        if fit is not None:
            row = sample_row(task, sample_seed, fit)
            done, low = done + 1, low + (row["about"]["fill"] < FILL)
            yield row
        if done == count:
            break
    if done < count:
        logging.warning("%s at %d has %d samples, not %d: the others are too long", name, room.length, done, count)
    if low:
        logging.info("%s at %d: %d of %d samples fill less than %s of it", name, room.length, low, done, FILL)


def sample_row(task: RulerTask, sample_seed: SampleSeed, fit: FittedSample) -> Record:
    """Return a sample as it is stored, in RULER's own fields and our metadata."""
    room, (size, sample, tokens) = task.room, fit
    metadata = {
        "ruler_task": sample_seed.task, "metric": "part" if BASES[sample_seed.task] == "qa" else "all",
        "like": task.answer_pattern,
        "length": room.length, "fill": round((tokens + room.num_bos + room.max_new_tokens) / room.length, 4),
        "n_tokens": tokens + room.num_bos, "new": room.max_new_tokens, "size": size, **sample.metadata,
    }  # fmt: skip
    return {
        "index": sample_seed.index, "input": sample.input, "outputs": sample.outputs,
        "length": tokens + room.max_new_tokens, "answer_prefix": sample.answer_prefix, "about": metadata,
    }  # fmt: skip
