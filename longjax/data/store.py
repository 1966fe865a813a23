"""Tokens in files, memory-mapped, with the list of their documents: what a tokeniser made, once.

A store is a folder: manifest.json (hashes, vocabulary, counts), docs.npy (a `DOC` a document), tokens-00000.bin and
on (little-endian ids), and mask-00000.bin beside them where some tokens are not to be learned. An address is the
number of a token in all shards together; no document lies in two of them.
"""

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

import numpy as np

from longjax.data.corpus import SPLITS
from longjax.data.tokenizer import Tokenizer
from longjax.files import fingerprint_json, sha256_file

DOC = np.dtype(
    [
        ("start", "<i8"),  # address of its first token
        ("length", "<u4"),
        ("characters", "<u4"),  # of its text; 0: it came as tokens
        ("source", "<u2"),  # its place in the manifest's list
        ("split", "u1"),  # its place in SPLITS
        ("file", "<u4"),  # its place in the manifest's list
        ("row", "<i8"),  # which document of the file
        ("id", "<u8"),  # of its name: what random choices depend on
    ]
)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStore:
    """All tokens and where their documents are.

    Attributes:
      manifest: hashes, vocabulary, counts.
      docs: a DOC a document.
      shards: ids, an array a file.
      masks: 1 where a token is learned, 0 where it is only read; empty: all are learned.
      folder: where it lies.

    """

    manifest: dict[str, Any]
    docs: np.ndarray
    shards: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...] = ()
    folder: pathlib.Path = pathlib.Path()

    @property
    def sha256(self) -> str:
        return fingerprint_json([self.manifest["docs"], [shard["sha256"] for shard in self.manifest["shards"]]])

    @property
    def vocab(self) -> int:
        return self.manifest["vocab"]

    @functools.cached_property
    def bases(self) -> np.ndarray:
        """-> the address of each shard's first token."""
        return np.cumsum([0, *(len(shard) for shard in self.shards[:-1])])

    def shard(self, address: np.ndarray) -> np.ndarray:
        """-> which shard each address lies in."""
        return np.searchsorted(self.bases, address, side="right") - 1

    def read(self, address: int, length: int) -> np.ndarray:
        """-> ids of a span within one document."""
        k = int(self.shard(np.asarray(address)))
        return self.shards[k][address - self.bases[k] :][:length]

    def documents(self, split: str) -> list[np.ndarray]:
        mine = self.docs[self.docs["split"] == SPLITS.index(split)]
        return [self.read(int(doc["start"]), int(doc["length"])) for doc in mine]

    def token_stream(self, split: str) -> np.ndarray:
        """-> the tokens of all documents of the split, one after the other."""
        parts = self.documents(split)
        return np.concatenate(parts) if parts else self.shards[0][:0]

    def name(self, doc: int) -> str:
        """-> where document number `doc` came from."""
        return f"{self.manifest['files'][self.docs['file'][doc]]}:{self.docs['row'][doc]}"


def open_store(path: str | os.PathLike, tokenizer: Tokenizer | None = None, verify: bool = False) -> TokenStore:
    """-> the store in the folder `path`, after comparing its files' sizes with the manifest.

    Args:
      path: the folder.
      tokenizer: that it must have been written with; None: any.
      verify: whether all bytes are compared with their hashes.

    """
    folder = pathlib.Path(path)
    manifest = read_json(folder / "manifest.json", f"delete {folder} and start again")
    if "shards" not in manifest:
        raise ValueError(f"{folder / 'manifest.json'} is of an earlier version: delete {folder} and start again")
    if tokenizer and manifest["tokenizer"] != tokenizer.sha256:
        raise ValueError(f"{folder / 'manifest.json'} was written with another tokenizer than {tokenizer.path}")
    size = np.dtype(manifest["dtype"]).itemsize
    for k, shard in enumerate(manifest["shards"]):
        _compare(folder / f"tokens-{k:05}.bin", shard["tokens"] * size, shard["sha256"] if verify else None)
        if manifest["masks"]:
            _compare(folder / f"mask-{k:05}.bin", shard["tokens"], shard["mask_sha256"] if verify else None)
    _compare(folder / "docs.npy", None, manifest["docs"] if verify else None)
    return TokenStore(
        manifest,
        _docs(folder / "docs.npy", manifest["documents"]),
        tuple(_map(folder / f"tokens-{k:05}.bin", manifest["dtype"]) for k in range(len(manifest["shards"]))),
        tuple(_map(folder / f"mask-{k:05}.bin", "u1") for k in range(len(manifest["shards"])) if manifest["masks"]),
        folder,
    )


def check_vocab(store: TokenStore, vocab: int, flag: str) -> None:
    """Raises ValueError if the store, which `flag` names, has ids that a model does not have."""
    if store.vocab > vocab:
        raise ValueError(
            f"{flag} was tokenised with a vocabulary of {store.vocab} but the model has {vocab}: "
            "tokenise with the model's tokenizer, or choose another model"
        )


def read_json(path: pathlib.Path, advice: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is missing or damaged: {advice}") from error


def _compare(path: pathlib.Path, size: int | None, expected: str | None) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing: copy it again, or delete {path.parent} and start again")
    if (size is not None and path.stat().st_size != size) or (expected is not None and sha256_file(path) != expected):
        raise ValueError(f"{path} does not match its manifest: copy it again, or delete {path.parent} and start again")


def _docs(path: pathlib.Path, count: int) -> np.ndarray:
    try:
        docs = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged: copy it again, or delete {path.parent} and start again") from error
    if docs.dtype != DOC or len(docs) != count:
        raise ValueError(f"{path} does not match its manifest: copy it again, or delete {path.parent} and start again")
    return docs


def _map(path: pathlib.Path, dtype: str) -> np.ndarray:
    """-> the file's numbers; a plain array, whose slices cost less than a memmap's."""
    return np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.zeros(0, dtype)
