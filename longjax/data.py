"""Tokens in a file, and plans: which rows of them are trained on, in which order.

A plan is index arithmetic: nothing is stored but its settings, and resuming needs one integer, the step.
Letters: T tokens of a row, S = T + 1 with the last target, B rows, I any number of indices.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from longjax.text import SPLITS, Document
from longjax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
    """All tokens, memory-mapped; the documents of a split lie together, each closed by the end token.

    Attributes:
      tokens: ids, one after the other.
      manifest: hashes, vocabulary, and the documents in order: name, sha256, split, start, length.

    """

    tokens: np.ndarray
    manifest: dict[str, Any]

    @property
    def sha256(self) -> str:
        return self.manifest["sha256"]

    def documents(self, split: str) -> list[np.ndarray]:
        mine = [d for d in self.manifest["documents"] if d["split"] == split]
        return [self.tokens[d["start"] : d["start"] + d["length"]] for d in mine]

    def stream(self, split: str) -> np.ndarray:
        """-> the tokens of all documents of the split."""
        mine = [d for d in self.manifest["documents"] if d["split"] == split]
        return self.tokens[mine[0]["start"] : mine[-1]["start"] + mine[-1]["length"]] if mine else self.tokens[:0]


def write_store(path: str | os.PathLike, documents: Iterable[Document], tokenizer: Tokenizer) -> Store:
    """Tokenises into the folder `path`. What is there is replaced; the manifest comes last, and seals it."""
    folder = pathlib.Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    dtype = "<u2" if tokenizer.vocab <= 2**16 else "<u4"
    entries, digest, start = [], hashlib.sha256(), 0
    with (folder / "tokens.bin").open("wb") as file:
        for document in sorted(documents, key=lambda d: SPLITS.index(d.split)):
            data = np.append(tokenizer.encode(document.text), tokenizer.end).astype(dtype)
            file.write(data.tobytes())
            digest.update(data.tobytes())
            about = {"name": document.name, "sha256": document.sha256, "split": document.split}
            entries.append(about | {"start": start, "length": len(data)})
            start += len(data)
        file.flush()
        os.fsync(file.fileno())
    manifest = {"dtype": dtype, "tokens": start, "sha256": digest.hexdigest(), "vocab": tokenizer.vocab}
    new = folder / "manifest.json.new"
    new.write_text(json.dumps(manifest | {"tokenizer": tokenizer.sha256, "documents": entries}, indent=1) + "\n")
    new.replace(folder / "manifest.json")
    return open_store(path, tokenizer)


def open_store(path: str | os.PathLike, tokenizer: Tokenizer) -> Store:
    """-> the store in the folder `path`, after comparing it with its hashes."""
    folder, tokens = pathlib.Path(path), pathlib.Path(path, "tokens.bin")
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder / 'manifest.json'} is missing or damaged: delete {folder} and start again"
        ) from error
    if manifest["tokenizer"] != tokenizer.sha256:
        raise ValueError(f"{folder / 'manifest.json'} was written with another tokenizer: delete {folder}")
    if not tokens.is_file() or _sha256(tokens) != manifest["sha256"]:
        raise ValueError(f"{tokens} does not match its manifest: delete {folder} and start again")
    data = np.memmap(tokens, manifest["dtype"], "r")
    return Store(data, manifest)


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Plan:
    """Rows of `length` tokens and their last target, cut from a split's stream one after the other.

    The order is a keyed permutation, another one every epoch. A plan of longer rows covers the same stream:
    row r of 8 T tokens is rows 8 r to 8 r + 7 of T.
    """

    store: Store
    length: int
    split: str = "train"
    seed: int = 0

    def __post_init__(self):
        if not len(self):
            raise ValueError(
                f"--length={self.length} is too long: the {self.split} split has {len(self.stream)} tokens"
            )

    def __len__(self) -> int:
        return max(0, len(self.stream) - 1) // self.length

    @functools.cached_property
    def stream(self) -> np.ndarray:
        return self.store.stream(self.split)

    @property
    def sha256(self) -> str:
        return fingerprint({"store": self.store.sha256, "split": self.split, "length": self.length, "seed": self.seed})

    def row(self, r: int) -> np.ndarray:
        """-> tokens_S, int32: row r of the stream, in its order."""
        return self.stream[r * self.length : (r + 1) * self.length + 1].astype(np.int32)

    def order(self, i_I: np.ndarray) -> np.ndarray:
        """-> r_I: which row comes i-th in training; i may exceed the number of rows."""
        epoch_I, place_I = np.divmod(i_I, len(self))
        r_I = np.zeros_like(i_I)
        for epoch in np.unique(epoch_I):
            now_I = epoch_I == epoch
            r_I[now_I] = permute(place_I[now_I], len(self), (self.seed, int(epoch)))
        return r_I

    def rows(self, step: int, batch: int) -> np.ndarray:
        """-> tokens_BS: the rows of one step."""
        return np.stack([self.row(r) for r in self.order(np.arange(step * batch, (step + 1) * batch))])


def fingerprint(settings: Any) -> str:
    """-> sha256 of anything that JSON can say."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def permute(i_I: np.ndarray, n: int, key: tuple[int, ...], rounds: int = 4) -> np.ndarray:
    """A keyed bijection of 0 .. n - 1: a Feistel network over the next power of four, walked until inside."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence(key).generate_state(rounds, np.uint64)
    x_I = _feistel(i_I.astype(np.uint64), np.uint64(half), keys)
    while (outside_I := x_I >= n).any():
        x_I = np.where(outside_I, _feistel(x_I, np.uint64(half), keys), x_I)
    return x_I.astype(np.int64)


def _feistel(x_I: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left_I, right_I = x_I >> half, x_I & mask
    for key in keys:
        left_I, right_I = right_I, left_I ^ (_mix(right_I ^ key) & mask)
    return left_I << half | right_I


def _mix(x_I: np.ndarray) -> np.ndarray:
    """The finaliser of MurmurHash3: every bit of the input changes half of those of the output."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x_I = (x_I ^ x_I >> np.uint64(33)) * np.uint64(factor)
    return x_I ^ x_I >> np.uint64(33)
