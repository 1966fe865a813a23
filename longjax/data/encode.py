"""Encodes documents as token ids in several processes, in the order of the input."""

import collections
import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Protocol

import numpy as np

from longjax.data.documents import RawDocument
from longjax.data.store_writer import EncodedDocument
from longjax.data.tokenizer import Tokenizer
from longjax.pools import process_pool

BATCH = 2**18  # characters that a process encodes at once
Encoded = tuple[np.ndarray, np.ndarray | None, str]  # ids; mask; why the document is left out


class Encoder(Protocol):
    """Turns the content of one document into token ids.

    Attributes:
      kind: its name in the manifest of a store.

    """

    kind: ClassVar[str]

    def __call__(self, tokenizer: Tokenizer, content: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns ids, int32, and a loss mask or None. Raises ValueError with a reason if the document is unusable."""
        ...


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """Encodes a text between the tokens that open and close a document; token ids are only checked.

    Attributes:
      add_bos: whether the token that opens a document is put before the text.
      add_eos: whether the token that closes a document is put after it.

    """

    kind: ClassVar[str] = "Text"
    add_bos: bool = False
    add_eos: bool = True

    def __call__(self, tokenizer: Tokenizer, content: Any) -> tuple[np.ndarray, None]:
        """Returns the ids of a text or an array of ids, and no mask."""
        if isinstance(content, np.ndarray):
            return _checked(content, tokenizer.vocab), None
        if not content.strip():
            raise ValueError("empty")
        bos = [tokenizer.bos_id] if self.add_bos else []
        eos = [tokenizer.eos_id] if self.add_eos else []
        return np.concatenate([bos, tokenizer.encode(content), eos]).astype(np.int32), None


def check_bos_eos(tokenizer: Tokenizer, add_bos: bool, add_eos: bool) -> None:
    """Raises ValueError if the tokenizer does not name a token that shall open or close documents."""
    for flag, wanted, i, name_it in (
        ("--add_bos", add_bos, tokenizer.bos_id, "name one by --opening"),
        ("--add_eos", add_eos, tokenizer.eos_id, "put tokenizer_config.json beside it"),
    ):
        if wanted and i < 0:
            raise ValueError(
                f"{flag}: {tokenizer.path} has no such token; {name_it}, or pass {flag.replace('--', '--no')}"
            )


def _checked(ids: np.ndarray, vocab: int) -> np.ndarray:
    if not ids.size:
        raise ValueError("empty")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError("not a list of ids")
    if ids.min() < 0 or ids.max() >= vocab:
        raise ValueError(f"with ids beyond the tokenizer's {vocab}")
    return ids.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class EncodeJob:
    """Encodes a batch of contents; picklable, for worker processes.

    Attributes:
      tokenizer: path of the tokenizer, which every process opens once.
      encoder: applied to each content.
      threads: of the tokenizer.
      opening: see `Tokenizer`.

    """

    tokenizer: str
    encoder: Encoder
    threads: int = 1
    opening: str = ""

    def __call__(self, contents: list[Any]) -> list[Encoded]:
        """Returns ids, mask, and the reason why a document is left out, of each content."""
        tokenizer = _open_tokenizer(self.tokenizer, self.threads, self.opening)
        return [self._encode(tokenizer, content) for content in contents]

    def _encode(self, tokenizer: Tokenizer, content: Any) -> Encoded:
        empty = np.zeros(0, np.int32)
        if content is None:
            return empty, None, "not text"
        try:
            return *self.encoder(tokenizer, content), ""
        except UnicodeError:  # JSON can hold half of a surrogate pair
            return empty, None, "not Unicode"
        except ValueError as error:
            return empty, None, str(error)


@functools.lru_cache(1)
def _open_tokenizer(path: str, threads: int, opening: str) -> Tokenizer:
    return Tokenizer(path, threads, opening)


def encode_documents(
    documents: Iterable[RawDocument], job: EncodeJob, workers: int
) -> Iterator[tuple[EncodedDocument, float]]:
    """Encodes documents in worker processes.

    Args:
      documents: the input.
      job: what to do with their contents.
      workers: number of processes; at most 1: none but this one.

    Yields:
      (document, share of the inputs that is read), in the order of the input, whatever the number of workers.

    """
    for batch, encoded in _in_order(job, _batches(documents), workers):
        for doc, (ids, mask, skipped) in zip(batch, encoded, strict=True):
            characters = len(doc.content) if isinstance(doc.content, str) else 0
            yield EncodedDocument(doc.name, doc.source, doc.file, doc.row, ids, characters, mask, skipped), doc.done


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(documents: Iterable[RawDocument]) -> Iterator[list[RawDocument]]:
    batch, size = [], 0
    for doc in documents:
        batch.append(doc)
        size += 100 + (len(doc.content) if isinstance(doc.content, str | np.ndarray) else 1000)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _in_order(
    job: EncodeJob, batches: Iterable[list[RawDocument]], workers: int
) -> Iterator[tuple[list[RawDocument], list[Encoded]]]:
    if workers <= 1:
        yield from ((batch, job([doc.content for doc in batch])) for batch in batches)
        return
    pool = process_pool(workers)
    waiting: collections.deque[tuple[list[RawDocument], concurrent.futures.Future]] = collections.deque()
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(job, [doc.content for doc in batch])))
            if len(waiting) >= 3 * workers:  # bounds the host memory
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ValueError(
            f"--workers={workers}: a process was killed, perhaps for lack of memory: run again with fewer"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _result(batch: list[RawDocument], future: concurrent.futures.Future) -> tuple[list[RawDocument], list[Encoded]]:
    return batch, future.result()
