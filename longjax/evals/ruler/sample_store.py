"""Samples on disk, in RULER's own form, so that they are made once and others can read them.

<task>.jsonl holds index, input, outputs, length, answer_prefix, and what we say of each; <task>.json how it was made.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, overload

import numpy as np

from longjax.evals.requests import GenerationRequest, Record
from longjax.evals.ruler.token_counter import TokenCounter
from longjax.files import atomic_files, sha256_bytes, sha256_file


@dataclasses.dataclass(frozen=True)
class Samples:
    """The first `count` lines of a file; `places`: where lines begin, and where the last one ends."""

    path: pathlib.Path
    places: tuple[int, ...]
    count: int

    def __getitem__(self, i: int) -> Record:
        with self.path.open("rb") as file:
            file.seek(self.places[i])
            return json.loads(file.read(self.places[i + 1] - self.places[i]))

    @functools.cached_property
    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return sha256_bytes(file.read(self.places[self.count]))


def load_samples(path: pathlib.Path, made: Record, count: int) -> Samples | None:
    """-> samples of the file if it is whole, was made in this way, and has enough."""
    try:
        said = json.loads(path.with_suffix(".json").read_bytes())
        if said["made"] != made or count > said["wanted"]:
            return None
        if sha256_file(path) != said["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with path.open("rb") as file:
        places = np.cumsum([0, *map(len, file)]).tolist()
    return Samples(path, tuple(places), min(count, len(places) - 1))


def write_samples(path: pathlib.Path, made: Record, count: int, rows: Iterator[Record]) -> Samples:
    """Writes rows as they come; both files, or neither. There may be fewer than wanted."""
    places, hashed = [0], hashlib.sha256()
    with atomic_samples(path) as create:
        file = create(path.name)
        for row in rows:
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            hashed.update(line)
            places.append(places[-1] + len(line))
        said = {"made": made, "wanted": count, "sha256": hashed.hexdigest()}
        create(path.with_suffix(".json").name).write(json.dumps(said, indent=1).encode())
    return Samples(path, tuple(places), len(places) - 1)


@contextlib.contextmanager
def atomic_samples(path: pathlib.Path) -> Iterator[Callable[[str], BinaryIO]]:
    """As files.together, in a folder of its own at first: several hosts may make the same samples at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as own:
            with atomic_files(pathlib.Path(own)) as create:
                yield create
            for file in (path, path.with_suffix(".json")):
                pathlib.Path(own, file.name).replace(file)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error}): name another --ruler_cache") from error


@dataclasses.dataclass(frozen=True, eq=False)
class SampleRequests(Sequence[GenerationRequest]):
    """Made of samples when asked for, so that 64K tokens times thousands need not be held."""

    samples: Samples
    counter: TokenCounter
    new: int

    def __len__(self) -> int:
        return self.samples.count

    @overload
    def __getitem__(self, i: int) -> GenerationRequest: ...

    @overload
    def __getitem__(self, i: slice) -> list[GenerationRequest]: ...

    def __getitem__(self, i: int | slice) -> GenerationRequest | list[GenerationRequest]:
        if isinstance(i, slice):
            return [self.question(j) for j in range(*i.indices(len(self)))]
        return self.question(range(len(self))[i])

    def question(self, i: int) -> GenerationRequest:
        row = self.samples[i]
        about = {"id": row["index"], "references": row["outputs"], **row["about"]}
        begin = self.counter.tokenizer.bos_id
        opens = np.array([begin] if begin >= 0 else [], np.int32)
        return GenerationRequest(
            np.concatenate([opens, self.counter.ids(row["input"] + row["answer_prefix"])]), about, self.new
        )
