"""Samples on disk, in RULER's own format, so that they are made once and other programs can read them.

<task>.jsonl holds index, input, outputs, length, answer_prefix and metadata of each; <task>.json the settings.
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
    """The first lines of a file of samples.

    Attributes:
      path: of the file.
      offsets: positions in bytes at which lines begin, and at which the last one ends.
      count: number of samples.

    """

    path: pathlib.Path
    offsets: tuple[int, ...]
    count: int

    def __getitem__(self, i: int) -> Record:
        with self.path.open("rb") as file:
            file.seek(self.offsets[i])
            return json.loads(file.read(self.offsets[i + 1] - self.offsets[i]))

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the samples' lines."""
        with self.path.open("rb") as file:
            return sha256_bytes(file.read(self.offsets[self.count]))


def load_samples(path: pathlib.Path, settings: Record, count: int) -> Samples | None:
    """Return `count` samples of a file; None unless it is whole, was made with these settings, and has enough."""
    try:
        index = json.loads(path.with_suffix(".json").read_bytes())
        if index["made"] != settings or count > index["wanted"]:
            return None
        if sha256_file(path) != index["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with path.open("rb") as file:
        offsets = np.cumsum([0, *map(len, file)]).tolist()
    return Samples(path, tuple(offsets), min(count, len(offsets) - 1))


def write_samples(path: pathlib.Path, settings: Record, count: int, rows: Iterator[Record]) -> Samples:
    """Write samples as they are made, atomically.

    Args:
      path: of the .jsonl file.
      settings: with which the samples are made.
      count: number of samples that were requested; there may be fewer rows.
      rows: the samples.

    Returns:
      The samples.

    Raises:
      ValueError: the folder cannot be written.

    """
    offsets, hashed = [0], hashlib.sha256()
    with atomic_samples(path) as create:
        file = create(path.name)
        for row in rows:
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            hashed.update(line)
            offsets.append(offsets[-1] + len(line))
        index = {"made": settings, "wanted": count, "sha256": hashed.hexdigest()}
        create(path.with_suffix(".json").name).write(json.dumps(index, indent=1).encode())
    return Samples(path, tuple(offsets), len(offsets) - 1)


@contextlib.contextmanager
def atomic_samples(path: pathlib.Path) -> Iterator[Callable[[str], BinaryIO]]:
    """As files.atomic_files, but in a temporary folder, since several hosts may make the same samples at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as temporary:
            with atomic_files(pathlib.Path(temporary)) as create:
                yield create
            for file in (path, path.with_suffix(".json")):
                pathlib.Path(temporary, file.name).replace(file)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error}): name another --ruler_cache") from error


@dataclasses.dataclass(frozen=True, eq=False)
class SampleRequests(Sequence[GenerationRequest]):
    """One request a sample, built on access: all together would be 64K tokens times thousands."""

    samples: Samples
    counter: TokenCounter
    max_new_tokens: int

    def __len__(self) -> int:
        return self.samples.count

    @overload
    def __getitem__(self, i: int) -> GenerationRequest: ...

    @overload
    def __getitem__(self, i: slice) -> list[GenerationRequest]: ...

    def __getitem__(self, i: int | slice) -> GenerationRequest | list[GenerationRequest]:
        if isinstance(i, slice):
            return [self.request(j) for j in range(*i.indices(len(self)))]
        return self.request(range(len(self))[i])

    def request(self, i: int) -> GenerationRequest:
        """Return the request of sample i."""
        row = self.samples[i]
        metadata = {"id": row["index"], "references": row["outputs"], **row["about"]}
        bos_id = self.counter.tokenizer.bos_id
        opening = np.array([bos_id] if bos_id >= 0 else [], np.int32)
        prompt_T = np.concatenate([opening, self.counter.ids(row["input"] + row["answer_prefix"])])
        return GenerationRequest(prompt_T, metadata, self.max_new_tokens)
