"""Tokens in a file, memory-mapped, with the list of their documents."""

import dataclasses
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
