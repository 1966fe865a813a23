"""Turns input files or documents into a token store."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from longjax.data.corpus import SPLITS, Document
from longjax.data.documents import Fields, InputFile, read_documents
from longjax.data.encode import EncodeJob, Encoder, encode_documents
from longjax.data.sft import Chat
from longjax.data.store import TokenStore, open_store
from longjax.data.store_ledger import SHARD_TOKENS, Layout, Ledger
from longjax.data.store_writer import EncodedDocument, write_shards
from longjax.data.tokenizer import Tokenizer
from longjax.files import read_object, sha256_file
from longjax.progress import ProgressFn, no_progress


def tokenize(
    folder: pathlib.Path, inputs: Sequence[InputFile], fields: Fields, tokenizer: Tokenizer, encoder: Encoder,
    held_out: float = 0.1, shard: int = SHARD_TOKENS, workers: int = 1, report: ProgressFn = no_progress,
    skip_bad: bool = False,
) -> TokenStore:  # fmt: skip
    """Tokenizes files into the store in `folder`; continues an interrupted store, and keeps a finished one.

    Its bytes depend on the inputs and the settings alone, not on the workers or on interruptions.

    Args:
      folder: of the store.
      inputs: the files, from `documents.find_inputs`.
      fields: where in a record the document is.
      tokenizer: the tokenizer.
      encoder: document to ids.
      held_out: share of documents in the validation and test splits together.
      shard: maximum number of tokens per file.
      workers: number of processes.
      report: progress callback.
      skip_bad: whether documents that cannot be used are left out and counted, as empty ones always are.

    Raises:
      ValueError: an input is damaged, a document cannot be used, the inputs hold none, or the folder holds a store
        of other inputs or settings.

    """
    settings = {
        "inputs": [sha256_file(x.path) for x in inputs], "fields": dataclasses.asdict(fields),
        "encoder": [encoder.kind, vars(encoder)],
    }  # fmt: skip
    names = tuple(x.name for x in inputs)
    masks = isinstance(encoder, Chat)
    layout = Layout(names, tokenizer.sha256, tokenizer.vocab, masks, shard, held_out, settings)
    if (folder / "manifest.json").exists() and layout.matches(
        read_object(folder / "manifest.json", f"delete {folder}")
    ):
        return open_store(folder)
    ledger = Ledger(folder, layout)
    raw = read_documents(inputs, fields, ledger.next, skip_bad)
    encoded = encode_documents(raw, EncodeJob(str(tokenizer.path), encoder, opening=tokenizer.opening), workers)
    encoded = encoded if skip_bad else map(_checked, encoded)
    before = sum(shard["tokens"] for shard in ledger.shards)
    return write_shards(folder, ledger, _with_progress(encoded, report, before))


def _checked(encoded: tuple[EncodedDocument, float]) -> tuple[EncodedDocument, float]:
    """-> the document. Raises ValueError if it is left out, other than for being empty."""
    document, _ = encoded
    if document.skipped not in ("", "empty"):
        raise ValueError(f"{document.name} is {document.skipped}: mend it, or pass --skip_bad to leave such out")
    return encoded


def _with_progress(
    encoded: Iterator[tuple[EncodedDocument, float]], report: ProgressFn, before: int
) -> Iterator[EncodedDocument]:
    """Passes documents on; reports the number of tokens, of which `before` were there at the start, and their rate."""
    start_time, tokens = time.time(), 0
    for n, (document, done) in enumerate(encoded):
        tokens += len(document.ids)
        if n % 16 == 0:
            rate = tokens / max(1e-3, time.time() - start_time)
            report(min(done, 0.999), f"{before + tokens:,} tokens, {rate:,.0f} a second")
        yield document
    report(1.0, f"{before + tokens:,} tokens")


def write_store(path: str | os.PathLike, documents: Iterable[Document], tokenizer: Tokenizer) -> TokenStore:
    """Tokenizes documents into the folder `path`, split by split; each is closed by the end token.

    A store in that folder is replaced.
    """
    folder, ordered = pathlib.Path(path), sorted(documents, key=lambda d: SPLITS.index(d.split))
    for name in ("manifest.json", "ledger.json"):
        (folder / name).unlink(missing_ok=True)
    settings = {"documents": [d.sha256 for d in ordered], "add_bos": False, "add_eos": True}
    layout = Layout(tuple(d.name for d in ordered), tokenizer.sha256, tokenizer.vocab, settings=settings)
    encoded = (
        EncodedDocument(d.name, "text", i, 0, np.append(tokenizer.encode(d.text), tokenizer.eos_id), len(d.text))
        for i, d in enumerate(ordered)
    )
    return write_shards(folder, Ledger(folder, layout), encoded)
