"""Writes a store, shard by shard: what is finished survives any interruption, and is not done again.

A ledger lists the finished shards and where the input goes on. The manifest comes last, and seals the store.
"""

import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from longjax import files
from longjax.data.corpus import SPLITS, split_of
from longjax.data.store import DOC, TokenStore, open_store, read_json
from longjax.files import sha256_bytes, sha256_file

SHARD = 2**27  # tokens: a kill costs the work on one shard


class Item(NamedTuple):
    """One document, tokenised; or why it is left out.

    Attributes:
      name: what its split and all random choices depend on.
      source: its label.
      file, row: which input, which document in it.
      ids: its tokens.
      characters: of its text.
      mask: 1 where a token is learned; None: everywhere.
      skipped: why it is left out; empty: it is not.

    """

    name: str
    source: str
    file: int
    row: int
    ids: np.ndarray
    characters: int = 0
    mask: np.ndarray | None = None
    skipped: str = ""


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a store's bytes depend on, beside the documents.

    Attributes:
      files: names of the inputs.
      tokenizer: its sha256.
      vocab: one more than the largest id.
      masks: whether each token has a weight.
      shard: tokens of a file, at most; a longer document has a file of its own.
      held_out: share of documents in the validation and test splits together.
      settings: all else: a store is gone on with only if they are the same.

    """

    files: tuple[str, ...]
    tokenizer: str
    vocab: int
    masks: bool = False
    shard: int = SHARD
    held_out: float = 0.1
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def dtype(self) -> str:
        return "<u2" if self.vocab <= 2**16 else "<u4"

    def same(self, other: dict[str, Any]) -> bool:
        """Whether a manifest is of a store of this layout."""
        return all(other.get(key) == value for key, value in self.said.items())

    @property
    def said(self) -> dict[str, Any]:
        """-> this, as JSON gives it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def split(self, name: str) -> int:
        half = self.held_out / 2
        return SPLITS.index(split_of(name, (1 - self.held_out, half, half)))


class Ledger:
    """The finished shards of a folder, checked against what lies in it."""

    def __init__(self, folder: pathlib.Path, layout: Layout):
        self.path, self.layout, said = folder / "ledger.json", layout, layout.said
        self.shards: list[dict[str, Any]] = []
        if (folder / "manifest.json").exists():
            raise ValueError(f"{folder} holds a finished store: choose another folder, or delete it")
        if self.path.exists():
            old = read_json(self.path, f"delete {folder} and start again")
            if differ := [key for key in said if old["layout"].get(key) != said[key]]:
                raise ValueError(f"{folder} was begun with other {', '.join(differ)}: delete it, or run as before")
            self.shards = old["shards"]
        for k, shard in enumerate(self.shards):
            if any(not _whole(folder / name, size) for name, size in shard["files"].items()):
                del self.shards[k:]  # what came after it is made again too
                break

    @property
    def next(self) -> tuple[int, int]:
        """-> file and row of the first document that is in no shard."""
        file, row = self.shards[-1]["next"] if self.shards else (0, 0)
        return file, row

    def add(self, shard: dict[str, Any]) -> None:
        self.shards.append(shard)
        files.write_atomically(
            self.path, json.dumps({"layout": self.layout.said, "shards": self.shards}, indent=1).encode()
        )


def _whole(path: pathlib.Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def write_shards(folder: pathlib.Path, ledger: Ledger, items: Iterable[Item]) -> TokenStore:
    """Writes the documents that the ledger does not know yet, and seals the store.

    Args:
      folder: of the store.
      ledger: of that folder.
      items: from `ledger.next` on.

    """
    layout = ledger.layout
    small = (item._replace(ids=item.ids.astype(layout.dtype)) for item in items)  # a shard waits in memory
    for group in _groups(small, layout.shard):
        ledger.add(_write_shard(folder, len(ledger.shards), group, layout))
    if not sum(shard["documents"] for shard in ledger.shards):
        raise ValueError(f"{folder}: the inputs hold no document{_why(ledger.shards)}")
    return _seal(folder, ledger)


def _groups(items: Iterable[Item], limit: int) -> Iterator[list[Item]]:
    """-> documents of at most `limit` tokens together."""
    group, size = [], 0
    for item in items:
        if size and not item.skipped and size + len(item.ids) > limit:
            yield group
            group, size = [], 0
        group.append(item)
        size += len(item.ids)
    if group:
        yield group


def _write_shard(folder: pathlib.Path, number: int, group: list[Item], layout: Layout) -> dict[str, Any]:
    """-> the ledger's line about it."""
    kept = [item for item in group if not item.skipped]
    docs = np.zeros(len(kept), DOC)
    docs["length"] = [len(item.ids) for item in kept]
    docs["start"] = np.cumsum(docs["length"], dtype=np.int64) - docs["length"]
    docs["characters"] = [item.characters for item in kept]
    docs["split"] = [layout.split(item.name) for item in kept]
    docs["file"], docs["row"] = [item.file for item in kept], [item.row for item in kept]
    docs["id"] = [int.from_bytes(hashlib.sha256(item.name.encode()).digest()[:8], "little") for item in kept]
    labels = {label: i for i, label in enumerate(_few(item.source for item in kept))}
    docs["source"] = [labels[item.source] for item in kept]
    parts = {f"tokens-{number:05}.bin": np.concatenate([np.zeros(0, layout.dtype), *(item.ids for item in kept)])}
    if layout.masks:
        masks = [np.ones(len(i.ids), np.uint8) if i.mask is None else i.mask.astype(np.uint8) for i in kept]
        parts[f"mask-{number:05}.bin"] = np.concatenate([np.zeros(0, np.uint8), *masks])
    contents = {name: part.data.cast("B") for name, part in parts.items()} | {f"docs-{number:05}.npy": _npy(docs)}
    with files.atomic_files(folder) as create:
        for name, content in contents.items():
            create(name).write(content)
    hashes = [sha256_bytes(content) for content in contents.values()]
    return {
        "tokens": len(parts[f"tokens-{number:05}.bin"]), "documents": len(kept), "sha256": hashes[0],
        "mask_sha256": hashes[1] if layout.masks else None, "sources": [*labels], "skipped": _skipped(group),
        "files": {name: len(content) for name, content in contents.items()},
        "next": [group[-1].file, group[-1].row + 1],
    }  # fmt: skip


def _few(labels: Iterable[str]) -> list[str]:
    """-> the different ones, in the order in which they come first."""
    found = list(dict.fromkeys(labels))
    if len(found) > 2**16:
        raise ValueError(f"--source_field gives {len(found)} sources, like {found[0]}: a store has at most {2**16}")
    return found


def _skipped(group: list[Item]) -> dict[str, list[Any]]:
    """-> {reason: [how many, the first]}."""
    found: dict[str, list[Any]] = {}
    for item in group:
        if item.skipped:
            found.setdefault(item.skipped, [0, item.name])[0] += 1
    return found


def _npy(docs: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, docs)
    return file.getvalue()


def _seal(folder: pathlib.Path, ledger: Ledger) -> TokenStore:
    """Joins the shards' lists of documents, and writes the manifest."""
    shards, layout = ledger.shards, ledger.layout
    labels = _few(label for shard in shards for label in shard["sources"])
    parts, base = [], 0
    for k, shard in enumerate(shards):
        docs = np.load(folder / f"docs-{k:05}.npy")
        docs["start"] += base
        if shard["sources"]:
            docs["source"] = np.array([labels.index(label) for label in shard["sources"]])[docs["source"]]
        parts.append(docs)
        base += shard["tokens"]
    docs = np.concatenate(parts)
    files.write_atomically(folder / "docs.npy", _npy(docs))
    manifest = dataclasses.asdict(layout) | {
        "dtype": layout.dtype, "tokens": base, "documents": len(docs), "docs": sha256_file(folder / "docs.npy"),
        "sources": labels, "counts": _counts(docs, labels), "skipped": _total(shards),
        "shards": [{key: shard[key] for key in ("tokens", "sha256", "mask_sha256")} for shard in shards],
    }  # fmt: skip
    files.write_atomically(folder / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    for path in [ledger.path, *folder.glob("docs-*.npy")]:
        path.unlink(missing_ok=True)
    return open_store(folder)


def _counts(docs: np.ndarray, labels: list[str]) -> dict[str, dict[str, int]]:
    count = np.bincount(docs["source"], minlength=len(labels))
    tokens = np.bincount(docs["source"], docs["length"], minlength=len(labels))
    return {label: {"documents": int(count[i]), "tokens": int(tokens[i])} for i, label in enumerate(labels)}


def _total(shards: list[dict[str, Any]]) -> dict[str, list[Any]]:
    total: dict[str, list[Any]] = {}
    for shard in shards:
        for reason, (count, first) in shard["skipped"].items():
            total.setdefault(reason, [0, first])[0] += count
    return total


def _why(shards: list[dict[str, Any]]) -> str:
    said = [f"{count} {reason}, the first {first}" for reason, (count, first) in _total(shards).items()]
    return f" ({'; '.join(said)})" if said else ""
