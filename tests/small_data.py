"""Stores without tokenizers: token number i of all is i, so that a row tells where it came from."""

import hashlib

import numpy as np

from longjax.data import TokenStore
from longjax.data.store import DOC


def store_of(sizes, sources=None, splits=None, shards=1, vocab=None):
    """-> a store in memory of documents of these sizes, cut into so many shards of whole documents."""
    total = int(np.sum(sizes))
    docs = np.zeros(len(sizes), DOC)
    docs["length"], docs["start"] = sizes, np.cumsum(sizes) - sizes
    docs["characters"] = 4 * np.asarray(sizes)
    names = sorted(set(sources or ["text"]))
    docs["source"] = [names.index(x) for x in sources] if sources else 0
    docs["split"] = splits if splits is not None else 0
    docs["row"] = np.arange(len(sizes))
    docs["id"] = [int.from_bytes(hashlib.sha256(b"%d" % i).digest()[:8], "little") for i in range(len(sizes))]
    cuts = [int(docs["start"][len(sizes) * k // shards]) for k in range(1, shards)]
    tokens = np.split(np.arange(total, dtype=np.uint32), cuts)
    manifest = {
        "docs": hashlib.sha256(docs.tobytes()).hexdigest(), "shards": [{"sha256": str(len(x))} for x in tokens],
        "vocab": vocab or total, "sources": names, "files": ["made"], "tokenizer": "none",
    }  # fmt: skip
    return TokenStore(manifest, docs, tuple(tokens))


def token_stream(store, split):
    """-> the tokens of all documents of the split, one after the other."""
    return np.concatenate(store.documents(split))


def sizes_of(count, seed=0, median=60.0, spread=1.2):
    """-> sizes of documents, most of them short, some very long."""
    return np.ceil(np.random.default_rng(seed).lognormal(np.log(median), spread, count)).astype(np.int64)
