"""Documents to ids, by several processes, in the order in which they came."""

import collections
import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from longjax.data.documents import Raw
from longjax.data.store_writer import Item
from longjax.data.tokenizer import Tokenizer
from longjax.pools import process_pool

BATCH = 2**18  # characters that a process gets at once
Encoded = tuple[np.ndarray, np.ndarray | None, str]  # ids; mask; why there are none


class Encoder(Protocol):
    """What a document becomes. Raises ValueError with a few words if it cannot be used."""

    def __call__(self, tokenizer: Tokenizer, content: Any) -> tuple[np.ndarray, np.ndarray | None]: ...


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """A text's ids, or ids that came as such, between the tokens that open and close a document."""

    add_bos: bool = False
    add_eos: bool = True

    def __call__(self, tokenizer: Tokenizer, content: Any) -> tuple[np.ndarray, None]:
        if isinstance(content, np.ndarray):
            return _checked(content, tokenizer.vocab), None
        if not content.strip():
            raise ValueError("empty")
        opens, closes = [tokenizer.bos_id] * self.add_bos, [tokenizer.eos_id] * self.add_eos
        return np.concatenate([opens, tokenizer.encode(content), closes]).astype(np.int32), None


def check_marks(tokenizer: Tokenizer, add_bos: bool, add_eos: bool) -> None:
    for flag, wanted, i in (("--add_bos", add_bos, tokenizer.bos_id), ("--add_eos", add_eos, tokenizer.eos_id)):
        if wanted and i < 0:
            raise ValueError(
                f"{flag}: {tokenizer.path} does not say which token that is; put tokenizer_config.json beside it, "
                f"or pass {flag.replace('--', '--no')}"
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
    """What a process does: contents to ids."""

    tokenizer: str
    encoder: Encoder
    threads: int = 1

    def __call__(self, contents: list[Any]) -> list[Encoded]:
        tokenizer = _open(self.tokenizer, self.threads)
        return [self.one(tokenizer, content) for content in contents]

    def one(self, tokenizer: Tokenizer, content: Any) -> Encoded:
        none = np.zeros(0, np.int32)
        if content is None:
            return none, None, "not text"
        try:
            return *self.encoder(tokenizer, content), ""
        except UnicodeError:  # half of a surrogate pair, which JSON can say
            return none, None, "not Unicode"
        except ValueError as error:
            return none, None, str(error)


@functools.lru_cache(1)
def _open(path: str, threads: int) -> Tokenizer:
    return Tokenizer(path, threads)


def encode(raws: Iterable[Raw], job: EncodeJob, workers: int) -> Iterator[tuple[Item, float]]:
    """-> (document as ids, share of the inputs done), in the order of `raws`, whatever the number of workers."""
    for batch, results in _in_order(job, _batches(raws), workers):
        for raw, (ids, mask, why) in zip(batch, results, strict=True):
            length = len(raw.content) if isinstance(raw.content, str) else 0
            yield Item(raw.name, raw.source, raw.file, raw.row, ids, length, mask, why), raw.done


def cores() -> int:
    """-> those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(raws: Iterable[Raw]) -> Iterator[list[Raw]]:
    batch, size = [], 0
    for raw in raws:
        batch.append(raw)
        size += 100 + (len(raw.content) if isinstance(raw.content, str | np.ndarray) else 1000)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _in_order(job: EncodeJob, batches: Iterable[list[Raw]], workers: int) -> Iterator[tuple[list[Raw], list[Encoded]]]:
    if workers <= 1:
        yield from ((batch, job([raw.content for raw in batch])) for batch in batches)
        return
    pool = process_pool(workers)
    waiting: collections.deque[tuple[list[Raw], concurrent.futures.Future]] = collections.deque()
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(job, [raw.content for raw in batch])))
            if len(waiting) >= 3 * workers:  # so that memory stays small
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ValueError(
            f"--workers={workers}: a process died, perhaps for want of memory: run again with fewer"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _result(batch: list[Raw], future: concurrent.futures.Future) -> tuple[list[Raw], list[Encoded]]:
    return batch, future.result()
