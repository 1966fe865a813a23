"""The token store: the token ids of all documents in memory-mapped files, with the list of documents.

A store is a folder: manifest.json (hashes, vocabulary, counts), docs.npy (a `DOC` record per document), the shards
tokens-00000.bin and on (little-endian ids), and mask-00000.bin and on where some tokens have no loss. An address is the
number of a token in all shards together; no document lies in two shards.
"""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import numpy as np

from longjax.data.corpus import SPLITS
from longjax.data.tokenizer import Tokenizer
from longjax.files import check_values, fingerprint_json, read_object, sha256_file

DOC = np.dtype(
    [
        ("start", "<i8"),  # address of its first token
        ("length", "<u4"),
        ("characters", "<u4"),  # of its text; 0: the input had token ids
        ("source", "<u2"),  # index into the manifest's sources
        ("split", "u1"),  # index into SPLITS
        ("file", "<u4"),  # index into the manifest's files
        ("row", "<i8"),  # number of the document in the file
        ("id", "<u8"),  # hash of its name: random choices depend on it alone
    ]
)

MANIFEST = {  # keys of manifest.json that are read, and the types of their values
    "tokenizer": str, "dtype": str, "vocab": int, "shards": list, "masks": bool, "docs": str, "documents": int,
    "files": list, "sources": list,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStore:
    """Token ids and the list of their documents.

    Attributes:
      manifest: hashes, vocabulary, counts.
      docs: a DOC record per document.
      shards: ids, one array per file.
      masks: 1 where predicting the token counts in the loss, else 0; one array per shard; empty: all tokens count.
      folder: where the store lies.

    """

    manifest: dict[str, Any]
    docs: np.ndarray
    shards: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...] = ()
    folder: pathlib.Path = pathlib.Path()

    @property
    def sha256(self) -> str:
        """Hash of the documents and all ids."""
        return fingerprint_json([self.manifest["docs"], [shard["sha256"] for shard in self.manifest["shards"]]])

    @property
    def vocab(self) -> int:
        """Vocabulary size of the tokenizer: one more than the largest id."""
        return self.manifest["vocab"]

    @functools.cached_property
    def shard_starts(self) -> np.ndarray:
        """The address of each shard's first token."""
        return np.cumsum([0, *(len(shard) for shard in self.shards[:-1])])

    def shard_of(self, address: np.ndarray) -> np.ndarray:
        """Returns the number of the shard that each address lies in."""
        return np.searchsorted(self.shard_starts, address, side="right") - 1

    def read(self, address: int, length: int) -> np.ndarray:
        """Returns the ids of a span within one document."""
        k = int(self.shard_of(np.asarray(address)))
        return self.shards[k][address - self.shard_starts[k] :][:length]

    def documents(self, split: str) -> list[np.ndarray]:
        """Returns the ids of each document of a split."""
        docs = self.docs[self.docs["split"] == SPLITS.index(split)]
        return [self.read(int(doc["start"]), int(doc["length"])) for doc in docs]

    def document_name(self, doc: int) -> str:
        """Returns file and row of document number `doc`."""
        return f"{self.manifest['files'][self.docs['file'][doc]]}:{self.docs['row'][doc]}"


def open_store(path: str | os.PathLike, tokenizer: Tokenizer | None = None, verify: bool = False) -> TokenStore:
    """Opens a store and compares the sizes of its files with the manifest.

    Args:
      path: the folder.
      tokenizer: the tokenizer that it must have been written with; None: any.
      verify: whether all bytes are compared with their hashes, too.

    Raises:
      ValueError: a file is missing or damaged, or the tokenizer is another one.

    """
    folder = pathlib.Path(path)
    manifest = read_manifest(folder / "manifest.json")
    if tokenizer and manifest["tokenizer"] != tokenizer.sha256:
        raise ValueError(f"{folder / 'manifest.json'} was written with another tokenizer than {tokenizer.path}")
    size = np.dtype(manifest["dtype"]).itemsize
    for k, shard in enumerate(manifest["shards"]):
        _check_file(folder / f"tokens-{k:05}.bin", shard["tokens"] * size, shard["sha256"] if verify else None)
        if manifest["masks"]:
            _check_file(folder / f"mask-{k:05}.bin", shard["tokens"], shard["mask_sha256"] if verify else None)
    _check_file(folder / "docs.npy", None, manifest["docs"] if verify else None)
    return TokenStore(
        manifest,
        _read_docs(folder / "docs.npy", manifest["documents"]),
        tuple(_map(folder / f"tokens-{k:05}.bin", manifest["dtype"]) for k in range(len(manifest["shards"]))),
        tuple(_map(folder / f"mask-{k:05}.bin", "u1") for k in range(len(manifest["shards"])) if manifest["masks"]),
        folder,
    )


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """Reads a store's manifest. Raises ValueError if it is missing, damaged or of an earlier version."""
    advice = f"delete {path.parent} and start again"
    manifest = read_object(path, advice)
    if "shards" not in manifest:
        raise ValueError(f"{path} is of an earlier version: {advice}")
    check_values(path, manifest, MANIFEST, advice)
    for shard in manifest["shards"]:
        check_values(path, shard if isinstance(shard, dict) else {}, {"tokens": int, "sha256": str}, advice)
    if manifest["dtype"] not in ("<u2", "<u4"):
        raise ValueError(f"{path} is damaged: dtype={manifest['dtype'][:40]}; {advice}")
    return manifest


def check_vocab(store: TokenStore, vocab: int, flag: str) -> None:
    """Raises ValueError if the store has ids that a model does not have.

    Args:
      store: the token store.
      vocab: the model's vocabulary size.
      flag: the flag with its value that named the store, for the message.

    """
    if store.vocab > vocab:
        raise ValueError(
            f"{flag} was tokenized with a vocabulary of {store.vocab} but the model has {vocab}: "
            "tokenize with the model's tokenizer, or choose another model"
        )


def _check_file(path: pathlib.Path, size: int | None, expected: str | None) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing: copy it again, or delete {path.parent} and start again")
    if (size is not None and path.stat().st_size != size) or (expected is not None and sha256_file(path) != expected):
        raise ValueError(f"{path} does not match its manifest: copy it again, or delete {path.parent} and start again")


def _read_docs(path: pathlib.Path, count: int) -> np.ndarray:
    try:
        docs = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged: copy it again, or delete {path.parent} and start again") from error
    if docs.dtype != DOC or len(docs) != count:
        raise ValueError(f"{path} does not match its manifest: copy it again, or delete {path.parent} and start again")
    return docs


def _map(path: pathlib.Path, dtype: str) -> np.ndarray:
    """-> the file as a memory-mapped array; of the plain class, whose slices cost less than a memmap's."""
    return np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.zeros(0, dtype)
