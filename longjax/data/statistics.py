"""What a set of documents is made of: a table for people."""

import numpy as np

from longjax.data.store import TokenStore

PERCENTS = (25, 50, 75, 90, 95, 99, 100)
LONG = (4096, 32_768, 65_536)
HEAD = ("source", "tokens", "share", "documents", *(f"p{p}" for p in PERCENTS), *(f">= {n // 1024}K" for n in LONG))


def summarize(store: TokenStore, docs: np.ndarray) -> list[str]:
    """-> a line a source and one for all: tokens, documents, percentiles of lengths, share of tokens in long ones."""
    size, source = store.docs["length"][docs].astype(np.int64), store.docs["source"][docs]
    parts = [(name, size[source == i]) for i, name in enumerate(store.manifest["sources"])]
    rows = [_row(name, part, int(size.sum())) for name, part in [*parts, ("all", size)] if len(part)]
    widths = [max(len(row[i]) for row in [HEAD, *rows]) for i in range(len(HEAD))]
    return ["  ".join(x.rjust(w) if i else x.ljust(w) for i, (x, w) in enumerate(zip(row, widths, strict=True)))
            for row in [HEAD, *rows]]  # fmt: skip


def _row(name: str, size: np.ndarray, total: int) -> tuple[str, ...]:
    tokens = int(size.sum())
    lengths = [f"{int(x)}" for x in np.percentile(size, PERCENTS, method="nearest")]
    long = [f"{size[size >= n].sum() / tokens:.1%}" for n in LONG]
    return name, f"{tokens:,}", f"{tokens / total:.2%}", f"{len(size):,}", *lengths, *long
