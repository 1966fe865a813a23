"""Writes a token store shard by shard; manifest.json is written last, and only with it the folder counts as a store."""

import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from longjax import files
from longjax.data.store import DOC, TokenStore, open_store
from longjax.data.store_ledger import Layout, Ledger
from longjax.files import sha256_bytes, sha256_file


class EncodedDocument(NamedTuple):
    """A document as token ids, or the reason why it is left out.

    Attributes:
      name: of the document; its split and all random choices depend on it alone.
      source: label of its source.
      file, row: number of the input file, and of the document in it.
      ids: its token ids.
      characters: length of its text; 0: the input had token ids.
      mask: 1 where predicting the token counts in the loss, else 0; None: 1 everywhere.
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


def write_shards(folder: pathlib.Path, ledger: Ledger, documents: Iterable[EncodedDocument]) -> TokenStore:
    """Writes the documents that are in no shard yet, and the manifest.

    Args:
      folder: of the store.
      ledger: of that folder.
      documents: in order, from `ledger.next` on.

    Returns:
      The finished store, opened.

    Raises:
      ValueError: the inputs hold no document, or the disk is full.

    """
    layout = ledger.layout
    small = (doc._replace(ids=doc.ids.astype(layout.dtype)) for doc in documents)  # a whole shard waits in memory
    for group in _groups(small, layout.shard):
        ledger.add(_write_shard(folder, len(ledger.shards), group, layout))
    if not sum(shard["documents"] for shard in ledger.shards):
        raise ValueError(f"{folder}: the inputs hold no document{_reasons(ledger.shards)}")
    return _finish(folder, ledger)


def _groups(documents: Iterable[EncodedDocument], limit: int) -> Iterator[list[EncodedDocument]]:
    """Yields lists of documents of at most `limit` tokens together, or of a single longer one."""
    group, size = [], 0
    for doc in documents:
        if size and not doc.skipped and size + len(doc.ids) > limit:
            yield group
            group, size = [], 0
        group.append(doc)
        size += len(doc.ids)
    if group:
        yield group


def _write_shard(folder: pathlib.Path, number: int, group: list[EncodedDocument], layout: Layout) -> dict[str, Any]:
    """Writes the files of a shard. -> its entry in the ledger."""
    written = [doc for doc in group if not doc.skipped]
    docs = np.zeros(len(written), DOC)
    docs["length"] = [len(doc.ids) for doc in written]
    docs["start"] = np.cumsum(docs["length"], dtype=np.int64) - docs["length"]
    docs["characters"] = [doc.characters for doc in written]
    docs["split"] = [layout.split(doc.name) for doc in written]
    docs["file"], docs["row"] = [doc.file for doc in written], [doc.row for doc in written]
    docs["id"] = [int.from_bytes(hashlib.sha256(doc.name.encode()).digest()[:8], "little") for doc in written]
    labels = {label: i for i, label in enumerate(_unique(doc.source for doc in written))}
    docs["source"] = [labels[doc.source] for doc in written]
    arrays = {f"tokens-{number:05}.bin": np.concatenate([np.zeros(0, layout.dtype), *(doc.ids for doc in written)])}
    if layout.masks:
        masks = [np.ones(len(d.ids), np.uint8) if d.mask is None else d.mask.astype(np.uint8) for d in written]
        arrays[f"mask-{number:05}.bin"] = np.concatenate([np.zeros(0, np.uint8), *masks])
    contents = {name: array.data.cast("B") for name, array in arrays.items()} | {f"docs-{number:05}.npy": _npy(docs)}
    with files.atomic_files(folder) as create:
        for name, content in contents.items():
            create(name).write(content)
    hashes = [sha256_bytes(content) for content in contents.values()]
    return {
        "tokens": len(arrays[f"tokens-{number:05}.bin"]), "documents": len(written), "sha256": hashes[0],
        "mask_sha256": hashes[1] if layout.masks else None, "sources": [*labels], "skipped": _skipped(group),
        "files": {name: len(content) for name, content in contents.items()},
        "next": [group[-1].file, group[-1].row + 1],
    }  # fmt: skip


def _unique(labels: Iterable[str]) -> list[str]:
    """-> the different labels, in the order of their first occurrence."""
    unique = list(dict.fromkeys(labels))
    if len(unique) > 2**16:
        raise ValueError(f"--source_field gives {len(unique)} sources, like {unique[0]}: a store has at most {2**16}")
    return unique


def _skipped(group: list[EncodedDocument]) -> dict[str, list[Any]]:
    """-> {reason: [number of documents, name of the first]}."""
    skipped: dict[str, list[Any]] = {}
    for doc in group:
        if doc.skipped:
            skipped.setdefault(doc.skipped, [0, doc.name])[0] += 1
    return skipped


def _npy(docs: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, docs)
    return file.getvalue()


def _finish(folder: pathlib.Path, ledger: Ledger) -> TokenStore:
    """Joins the shards' lists of documents and writes the manifest."""
    shards, layout = ledger.shards, ledger.layout
    labels = _unique(label for shard in shards for label in shard["sources"])
    docs_of_shards, tokens = [], 0
    for k, shard in enumerate(shards):
        docs = np.load(folder / f"docs-{k:05}.npy")
        docs["start"] += tokens
        if shard["sources"]:
            docs["source"] = np.array([labels.index(label) for label in shard["sources"]])[docs["source"]]
        docs_of_shards.append(docs)
        tokens += shard["tokens"]
    docs = np.concatenate(docs_of_shards)
    files.write_atomically(folder / "docs.npy", _npy(docs))
    manifest = dataclasses.asdict(layout) | {
        "dtype": layout.dtype, "tokens": tokens, "documents": len(docs), "docs": sha256_file(folder / "docs.npy"),
        "sources": labels, "counts": _counts(docs, labels), "skipped": _sum_skipped(shards),
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


def _sum_skipped(shards: list[dict[str, Any]]) -> dict[str, list[Any]]:
    total: dict[str, list[Any]] = {}
    for shard in shards:
        for reason, (count, first) in shard["skipped"].items():
            total.setdefault(reason, [0, first])[0] += count
    return total


def _reasons(shards: list[dict[str, Any]]) -> str:
    reasons = [f"{count} {reason}, the first {first}" for reason, (count, first) in _sum_skipped(shards).items()]
    return f" ({'; '.join(reasons)})" if reasons else ""
