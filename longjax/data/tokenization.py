"""Files to a store: read, encode in several processes, write, and say how far it is."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from longjax.data import documents
from longjax.data.corpus import SPLITS, Document
from longjax.data.documents import Fields, Input
from longjax.data.encode import EncodeJob, Encoder, encode
from longjax.data.sft import Chat
from longjax.data.store import TokenStore, open_store, read_json
from longjax.data.store_writer import SHARD, Item, Layout, Ledger, write_shards
from longjax.data.tokenizer import Tokenizer
from longjax.progress import ProgressFn, no_progress


def tokenize(
    folder: pathlib.Path, inputs: Sequence[Input], fields: Fields, tokenizer: Tokenizer, encoder: Encoder,
    held_out: float = 0.1, shard: int = SHARD, workers: int = 1, report: ProgressFn = no_progress,
) -> TokenStore:  # fmt: skip
    """-> the store in `folder`: made, gone on with after an interruption, or as it is if it is finished.

    Its bytes depend on the inputs and the settings alone: not on the workers, nor on interruptions.
    """
    settings = {
        "sizes": [x.size for x in inputs], "fields": dataclasses.asdict(fields),
        "encoder": [type(encoder).__name__, vars(encoder)],
    }  # fmt: skip
    names = tuple(x.name for x in inputs)
    masks = isinstance(encoder, Chat)
    layout = Layout(names, tokenizer.sha256, tokenizer.vocab, masks, shard, held_out, settings)
    if (folder / "manifest.json").exists() and layout.same(read_json(folder / "manifest.json", f"delete {folder}")):
        return open_store(folder)
    ledger = Ledger(folder, layout)
    raws = documents.documents(inputs, fields, ledger.next)
    pairs = encode(raws, EncodeJob(str(tokenizer.path), encoder), workers)
    return write_shards(folder, ledger, with_progress(pairs, report, sum(part["tokens"] for part in ledger.shards)))


def with_progress(pairs: Iterator[tuple[Item, float]], report: ProgressFn, before: int) -> Iterator[Item]:
    """-> the items; says how many tokens there are, and how many a second."""
    began, tokens = time.time(), 0
    for n, (item, done) in enumerate(pairs):
        tokens += len(item.ids)
        if n % 16 == 0:
            rate = tokens / max(1e-3, time.time() - began)
            report(min(done, 0.999), f"{before + tokens:,} tokens, {rate:,.0f} a second")
        yield item
    report(1.0, f"{before + tokens:,} tokens")


def write_store(path: str | os.PathLike, documents: Iterable[Document], tokenizer: Tokenizer) -> TokenStore:
    """Tokenises into the folder `path`, split by split, each document closed by the end token.

    What is there is replaced.
    """
    folder, ordered = pathlib.Path(path), sorted(documents, key=lambda d: SPLITS.index(d.split))
    for name in ("manifest.json", "ledger.json"):
        (folder / name).unlink(missing_ok=True)
    about = {"documents": [d.sha256 for d in ordered], "add_bos": False, "add_eos": True}
    layout = Layout(tuple(d.name for d in ordered), tokenizer.sha256, tokenizer.vocab, settings=about)
    items = (
        Item(d.name, "text", i, 0, np.append(tokenizer.encode(d.text), tokenizer.eos_id), len(d.text))
        for i, d in enumerate(ordered)
    )
    return write_shards(folder, Ledger(folder, layout), items)
