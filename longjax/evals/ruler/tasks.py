"""RULER's thirteen tasks at the lengths asked for (Hsieh et al. 2024, arXiv:2404.06654)."""

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
from longjax.evals.ruler.parallel import on_all_cores
from longjax.evals.ruler.sample import SampleSeed
from longjax.evals.ruler.versions import BASES, VERSIONS, RulerTask, make

TRIES = 20  # draws of which one must fit, or the length is too short
FILL = 0.95


@dataclasses.dataclass(frozen=True)
class Ruler:
    ruler_version: Literal["exact", "main", "2024"] = "exact"  # 2024: as in the study; main: as now; exact: ours, full
    ruler_tasks: str = "all"  # names joined by commas
    ruler_samples: int = 500  # questions of a task and length
    ruler_cache: str | None = None  # folder for the samples, if not ruler_cache in --data_dir

    @property
    def names(self) -> list[str]:
        wanted = BASES if self.ruler_tasks == "all" else (name.strip() for name in self.ruler_tasks.split(","))
        names = list(dict.fromkeys(wanted))
        if unknown := [name for name in names if name not in BASES]:
            raise ValueError(f"--ruler_tasks={self.ruler_tasks}: no task {unknown[0]!r}; there are {', '.join(BASES)}")
        return names

    def tasks(self, material: EvalContext) -> list[Task]:
        """-> tasks whose samples lie on disk; lengths that are too short for one are left out with a warning."""
        if self.ruler_samples < 1:
            raise ValueError(f"--ruler_samples={self.ruler_samples} must be at least 1")
        kit, tasks, short = RulerInputs(material), [], []
        jobs = list(itertools.product(material.lengths, self.names))
        missing = [(length, name) for length, name in jobs if not self.path(name, length, kit).exists()]
        on_all_cores(self.task, material, missing, self.count(material))
        for length, name in jobs:
            try:
                tasks.append(self.task(name, length, kit))
            except TooShortError as error:
                short.append((length, name, error))
        for length, found in itertools.groupby(short, key=operator.itemgetter(0)):
            names = ", ".join(name for _, name, _ in found)
            logging.warning("--lengths=%d is too short for %s: left out", length, names)
        if short and not tasks:
            raise short[0][2]
        return tasks

    def task(self, name: str, length: int, kit: RulerInputs) -> Task:
        material = kit.material
        made = make(VERSIONS[self.ruler_version], name, length, material.seed, kit)
        count = min(self.count(material), made.grow.samples)
        settings = {
            "version": self.ruler_version, "seed": material.seed, "prompts": kit.named_prompts[1],
            "tokenizer_sha256": material.tokenizer.sha256, **made.settings,
        }  # fmt: skip
        path = self.path(name, length, kit)
        samples = sample_store.load_samples(path, settings, count)
        if samples is None:
            samples = sample_store.write_samples(path, settings, count, rows(made, name, count, material.seed))
        settings |= {"samples": samples.count, "data_sha256": samples.sha256}
        return Task(
            f"ruler/{length}/{name}", sample_store.SampleRequests(samples, kit.counter, made.room.new), settings
        )

    def count(self, material: EvalContext) -> int:
        return min(self.ruler_samples, material.max_examples or self.ruler_samples)

    def path(self, name: str, length: int, kit: RulerInputs) -> pathlib.Path:
        """-> where the samples lie."""
        material = kit.material
        root = pathlib.Path(self.ruler_cache) if self.ruler_cache else material.data_dir / "ruler_cache"
        of = (self.ruler_version, kit.named_prompts[1][:12], material.tokenizer.sha256[:12], str(material.seed))
        return root / "-".join(of) / str(length) / f"{name}.jsonl"


def rows(made: RulerTask, name: str, count: int, seed: int) -> Iterator[Record]:
    """-> samples as they are stored. Raises TooShortError if none of the first fits."""
    chances = [SampleSeed(seed, name, i) for i in range(min(made.grow.samples, 2 * count + TRIES))]
    room, fits, done, low = made.room, made.sizing(made.grow, made.room, chances), 0, 0
    for chance, fit in zip(chances, fits, strict=True):
        if fit is None and not done and chance.index + 1 >= min(TRIES, len(chances)):
            raise TooShortError(f"--lengths={room.length} is too short for {name} with this tokenizer")
        if fit is not None:
            row = sample_row(made, chance, fit)
            done, low = done + 1, low + (row["about"]["fill"] < FILL)
            yield row
        if done == count:
            break
    if done < count:
        logging.warning("%s at %d has %d samples, not %d: the others are too long", name, room.length, done, count)
    if low:
        logging.info("%s at %d: %d of %d samples fill less than %s of it", name, room.length, low, done, FILL)


def sample_row(made: RulerTask, chance: SampleSeed, fit: FittedSample) -> Record:
    room, (size, sample, tokens) = made.room, fit
    about = {
        "ruler_task": chance.task, "metric": "part" if BASES[chance.task] == "qa" else "all", "like": made.like,
        "length": room.length, "fill": round((tokens + room.begin + room.new) / room.length, 4),
        "n_tokens": tokens + room.begin, "new": room.new, "size": size, **sample.about,
    }  # fmt: skip
    return {
        "index": chance.index, "input": sample.input, "outputs": sample.outputs, "length": tokens + room.new,
        "answer_prefix": sample.answer_prefix, "about": about,
    }  # fmt: skip
