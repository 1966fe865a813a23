"""A table of what a set of documents consists of: tokens, documents and lengths per source."""

import numpy as np

from longjax.data.store import TokenStore

PERCENTILES = (25, 50, 75, 90, 95, 99, 100)
LONG = (4096, 32_768, 65_536)
HEAD = ("source", "tokens", "share", "documents", *(f"p{p}" for p in PERCENTILES), *(f">= {n // 1024}K" for n in LONG))


def summarize(store: TokenStore, docs: np.ndarray) -> list[str]:
    """Returns the lines of a table with a row per source and one for all.

    Args:
      store: the token store.
      docs: numbers of the documents to count.

    Returns:
      Lines with the number of tokens, their share, the number of documents, percentiles of their lengths, and the share
      of tokens in documents of at least 4K, 32K and 64K tokens.

    """
    size, source = store.docs["length"][docs].astype(np.int64), store.docs["source"][docs]
    by_source = [(name, size[source == i]) for i, name in enumerate(store.manifest["sources"])]
    rows = [_row(name, sizes, int(size.sum())) for name, sizes in [*by_source, ("all", size)] if len(sizes)]
    widths = [max(len(row[i]) for row in [HEAD, *rows]) for i in range(len(HEAD))]
    return [_line(row, widths) for row in [HEAD, *rows]]


def _row(name: str, size: np.ndarray, total: int) -> tuple[str, ...]:
    tokens = int(size.sum())
    lengths = [f"{int(x)}" for x in np.percentile(size, PERCENTILES, method="nearest")]
    long = [f"{size[size >= n].sum() / tokens:.1%}" for n in LONG]
    return name, f"{tokens:,}", f"{tokens / total:.2%}", f"{len(size):,}", *lengths, *long


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [x.rjust(w) if i else x.ljust(w) for i, (x, w) in enumerate(zip(row, widths, strict=True))]
    return "  ".join(cells)
