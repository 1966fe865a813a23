"""Task examples on disk: their tokens one after the other, shortest example first, memory-mapped.

A folder holds tokens.npy, drills.npy (an `EXAMPLE` record each, under the name of the first release) and manifest.json,
which describes them and is written last.
"""

import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from longjax import files
from longjax.data.recall_rows import TaskExample
from longjax.files import read_object, sha256_bytes, sha256_file

EXAMPLE = np.dtype(
    [
        ("start", "<i8"),  # index of its first token
        ("size", "<u4"),  # in tokens
        ("answer", "<u4"),  # index in the example of the first token of the answer
        ("cell", "<u2"),  # index into the manifest's list of tasks and lengths
    ]
)


class SolvedTask(NamedTuple):
    """A question with its best answer.

    Attributes:
      ids: of both.
      answer_start: index of the first token of the answer.

    """

    ids: np.ndarray
    answer_start: int


class TaskExamples:
    """The task examples in a folder; a `TaskExampleSource` of training rows.

    Args:
      folder: that `save_examples` wrote.
      tokenizer: sha256 of the tokenizer that they must have been written with; None: any.

    Raises:
      ValueError: a file is missing or damaged, or the tokenizer is another one.

    """

    def __init__(self, folder: str | os.PathLike, tokenizer: str | None = None):
        self.folder = pathlib.Path(folder)
        advice = f"delete {self.folder} and start again"
        self.manifest = read_object(self.folder / "manifest.json", advice)
        if tokenizer and self.manifest["tokenizer"] != tokenizer:
            raise ValueError(f"{self.folder / 'manifest.json'} was written with another tokenizer: {advice}")
        for name, digest in self.manifest["files"].items():
            if not (path := self.folder / name).is_file() or sha256_file(path) != digest:
                raise ValueError(f"{path} does not match its manifest: {advice}")
        self.tokens = np.asarray(np.load(self.folder / "tokens.npy", mmap_mode="r"))
        self.index = np.load(self.folder / "drills.npy")

    @property
    def sha256(self) -> str:
        """Hash of all tokens."""
        return self.manifest["files"]["tokens.npy"]

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.index)

    def __getitem__(self, i: int) -> TaskExample:
        """Returns example number i."""
        start, size, answer, _ = self.index[i].tolist()
        ids = self.tokens[start : start + size]
        return TaskExample(ids[:answer], ids[answer:])

    def draw(self, rng: np.random.Generator, room: int) -> TaskExample | None:
        """Returns the example that a random token lies in, of all that fit into `room` tokens; None if none does."""
        fitting = int(np.searchsorted(self.index["size"], room, side="right"))
        if not fitting:
            return None
        end = int(self.index["start"][fitting - 1]) + int(self.index["size"][fitting - 1])
        return self[int(np.searchsorted(self.index["start"], rng.integers(end), side="right")) - 1]


def save_examples(
    folder: pathlib.Path, cells: Sequence[Sequence[SolvedTask]], vocab: int, description: dict[str, Any]
) -> None:
    """Writes task examples; all files or none.

    Args:
      folder: to write.
      cells: the examples of each task and length.
      vocab: vocabulary size.
      description: for the manifest.

    """
    flat = [(solved, cell) for cell, examples in enumerate(cells) for solved in examples]
    flat.sort(key=lambda pair: len(pair[0].ids))
    index = np.zeros(len(flat), EXAMPLE)
    index["size"] = [len(solved.ids) for solved, _ in flat]
    index["start"] = np.cumsum(index["size"], dtype=np.int64) - index["size"]
    index["answer"], index["cell"] = [solved.answer_start for solved, _ in flat], [cell for _, cell in flat]
    tokens = np.concatenate([solved.ids for solved, _ in flat]).astype("<u2" if vocab <= 2**16 else "<u4")
    hashes = {}
    with files.atomic_files(folder) as create:
        for name, array in (("tokens.npy", tokens), ("drills.npy", index)):
            content = io.BytesIO()
            np.save(content, array)
            create(name).write(content.getbuffer())
            hashes[name] = sha256_bytes(content.getbuffer())
        create("manifest.json").write((json.dumps(description | {"files": hashes}, indent=1) + "\n").encode())
