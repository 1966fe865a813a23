"""Drills on disk: tokens one after the other, shortest first, memory-mapped.

A folder holds tokens.npy, drills.npy (a `DRILL` each) and manifest.json, which says how they were made and seals them.
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
from longjax.data.store import read_json
from longjax.files import sha256_bytes, sha256_file

DRILL = np.dtype(
    [
        ("start", "<i8"),  # of its first token
        ("size", "<u4"),  # in tokens
        ("answer", "<u4"),  # its first token that answers, and is learned in full
        ("cell", "<u2"),  # its place in the manifest's list of tasks and lengths
    ]
)


class SolvedTask(NamedTuple):
    """A question with its best answer: ids, of which those from `answer` on are the answer."""

    ids: np.ndarray
    answer: int


class TaskExamples:
    """The drills in a folder. Raises ValueError if they are not whole, or of another tokenizer than `tokenizer`."""

    def __init__(self, folder: str | os.PathLike, tokenizer: str | None = None):
        self.folder = pathlib.Path(folder)
        advice = f"delete {self.folder} and start again"
        self.manifest = read_json(self.folder / "manifest.json", advice)
        if tokenizer and self.manifest["tokenizer"] != tokenizer:
            raise ValueError(f"{self.folder / 'manifest.json'} was written with another tokenizer: {advice}")
        for name, digest in self.manifest["files"].items():
            if not (path := self.folder / name).is_file() or sha256_file(path) != digest:
                raise ValueError(f"{path} does not match its manifest: {advice}")
        self.tokens = np.asarray(np.load(self.folder / "tokens.npy", mmap_mode="r"))
        self.drills = np.load(self.folder / "drills.npy")

    @property
    def sha256(self) -> str:
        return self.manifest["files"]["tokens.npy"]

    def __len__(self) -> int:
        return len(self.drills)

    def __getitem__(self, i: int) -> TaskExample:
        start, size, answer, _ = self.drills[i].tolist()
        ids = self.tokens[start : start + size]
        return TaskExample(ids[:answer], ids[answer:])

    def draw(self, rng: np.random.Generator, room: int) -> TaskExample | None:
        """-> the drill that a random token lies in, of all drills that fit into `room` tokens; None: none does."""
        fit = int(np.searchsorted(self.drills["size"], room, side="right"))
        if not fit:
            return None
        end = int(self.drills["start"][fit - 1]) + int(self.drills["size"][fit - 1])
        return self[int(np.searchsorted(self.drills["start"], rng.integers(end), side="right")) - 1]


def save_examples(
    folder: pathlib.Path, cells: Sequence[Sequence[SolvedTask]], vocab: int, about: dict[str, Any]
) -> None:
    """Writes drills, cell by cell, and what is known about them; all files or none."""
    flat = [(solved, cell) for cell, made in enumerate(cells) for solved in made]
    flat.sort(key=lambda pair: len(pair[0].ids))
    drills = np.zeros(len(flat), DRILL)
    drills["size"] = [len(solved.ids) for solved, _ in flat]
    drills["start"] = np.cumsum(drills["size"], dtype=np.int64) - drills["size"]
    drills["answer"], drills["cell"] = [solved.answer for solved, _ in flat], [cell for _, cell in flat]
    tokens = np.concatenate([solved.ids for solved, _ in flat]).astype("<u2" if vocab <= 2**16 else "<u4")
    with files.atomic_files(folder) as create:
        for name, array in (("tokens.npy", tokens), ("drills.npy", drills)):
            held = io.BytesIO()
            np.save(held, array)
            create(name).write(held.getbuffer())
            about = about | {"files": about.get("files", {}) | {name: sha256_bytes(held.getbuffer())}}
        create("manifest.json").write((json.dumps(about, indent=1) + "\n").encode())
