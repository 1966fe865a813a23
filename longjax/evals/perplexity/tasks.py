"""Perplexity as log-likelihood requests, one a window of the chosen protocol.

Letters: T tokens of a window, U scored ones among them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from longjax.evals.context import EvalContext
from longjax.evals.perplexity.protocols import (
    EvenlySpaced,
    Nested,
    Sliding,
    Strided,
    Window,
    Windows,
    WithoutMemory,
    protocol_settings,
)
from longjax.evals.perplexity.text import EvalText, read_texts
from longjax.evals.requests import LoglikelihoodRequest, LoglikelihoodResult, Record, Request, Task, finite_or_none

Name = Literal["strided", "lceg", "longlora", "yarn", "nonoverlap", "nested", "landmark_lceg", "chunked"]
LCEG_DOCUMENTS = 10  # eval_perplexity reads no more
LANDMARK_PART = 512  # tokens of a forward pass in eval_landmark.py


BY_DOCUMENT = ("strided", "yarn", "nonoverlap")  # protocols whose windows end with their documents


@dataclasses.dataclass(frozen=True)
class PerplexityTest:
    """Perplexity by protocol, text and length."""

    ppl_protocol: Name = "strided"  # which tokens are scored with how much context; lceg is the study's
    ppl_data: str = ""  # texts in perplexity/, comma-separated names; all of them if empty
    ppl_stride: int = 256  # tokens between the starts of windows
    num_windows: int | None = None  # at most this many windows of a text, spread evenly; all if unset
    ppl_documents: int | None = None  # only this many documents from the beginning; lceg: 10, else all if unset
    ppl_truncate: bool = False  # strided, yarn, nonoverlap: only the first window of a document
    ppl_least: int | None = None  # strided, yarn, nonoverlap: documents with fewer tokens are left out
    ppl_buckets: int = 32  # buckets of positions in a window, for the loss by position

    def __post_init__(self):
        numbers = {name: value for name, value in dataclasses.asdict(self).items() if type(value) is int}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"--{name}={value} must be at least 1")

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Return a task for each text in perplexity/ and each length. Raises ValueError for files of the user."""
        tasks = []
        for text in read_texts(ctx, self.ppl_data):
            made = self.tasks_of(text, ctx.lengths, ctx.tokenizer.bos_id, ctx.trained_len, ctx.max_examples)
            for length, task in zip(ctx.lengths, made, strict=True):
                self.check_whole(text, length, task)
            tasks += made
        return tasks

    def check_whole(self, text: EvalText, length: int, task: Task) -> None:
        """Raises ValueError if all documents are shorter than the windows of a protocol that ends with documents.

        They count beside a whole window, but alone they would be shown at a length that they do not have.
        """
        assert isinstance(task.requests, WindowRequests)
        if self.ppl_protocol in BY_DOCUMENT and max(window.size for window in task.requests.windows) < length:
            raise self.no_window(text, length)

    def no_window(self, text: EvalText, length: int) -> ValueError:
        """Returns the error of a text that is too short."""
        return ValueError(
            f"{text.path} has {len(text.ids)} tokens in {len(text.starts)} documents: no window of {length} tokens "
            f"by --ppl_protocol={self.ppl_protocol}; use a longer text or shorter --lengths"
        )

    def tasks_of(
        self,
        text: EvalText,
        lengths: Sequence[int],
        bos_id: int = -1,
        trained_len: int = 4096,
        max_windows: int | None = None,
    ) -> list[Task]:
        """Return a task for each length.

        Args:
          text: what is scored.
          lengths: of windows, in tokens.
          bos_id: the id that opens a text; -1: there is none.
          trained_len: after this many tokens `chunked` drops the context.
          max_windows: of each length; None: all.

        """
        limits = [limit for limit in (self.num_windows, max_windows) if limit is not None]
        rest = max(lengths), bos_id, trained_len, min(limits, default=None)
        return [self.task(text, length, max(lengths), self.windows(length, *rest)) for length in lengths]

    def windows(self, length: int, longest: int, bos_id: int, trained_len: int, max_windows: int | None) -> Windows:
        """Return the protocol that --ppl_protocol names."""
        documents, room = self.ppl_documents, length - (bos_id >= 0)
        by_document = Strided(None, bos_id, documents, self.ppl_truncate, self.ppl_least or 0)
        ten = at_most(max_windows, Sliding(self.ppl_stride, documents or LCEG_DOCUMENTS))
        match self.ppl_protocol:
            case "strided":
                return at_most(max_windows, dataclasses.replace(by_document, stride=min(self.ppl_stride, room)))
            case "yarn":
                equal = dataclasses.replace(by_document, stride=self.ppl_stride, equal_weights=True)
                return at_most(max_windows, equal)
            case "nonoverlap":
                return at_most(max_windows, by_document)
            case "nested":
                return Nested(longest, max_windows)
            case "longlora":
                return at_most(max_windows, Sliding(self.ppl_stride, documents))
            case "lceg":
                return ten
            case "landmark_lceg":
                return WithoutMemory(ten, LANDMARK_PART)
            case "chunked":
                return WithoutMemory(ten, trained_len)

    def task(self, text: EvalText, length: int, longest: int, windows: Windows) -> Task:
        """Return the task of one length. Raises ValueError if the text has no window."""
        protocol = self.ppl_protocol
        metadata = {"protocol": protocol, "data": text.name, "length": length}
        requests = WindowRequests(windows(text, length), metadata)
        if not requests:
            raise self.no_window(text, length)
        settings = {**dataclasses.asdict(self), "windows": protocol_settings(windows), "data_sha256": text.sha256}
        again = protocol == "nested" and length < longest  # the same tokens with less context before them
        to_record = LossRecord(length, 0 if again else self.ppl_buckets)
        return Task(f"perplexity/{protocol}/{text.name}/{length}", requests, settings, to_record)


def at_most(max_windows: int | None, windows: Windows) -> Windows:
    """Limit a protocol to evenly chosen windows; None: no limit."""
    return windows if max_windows is None else EvenlySpaced(windows, max_windows)


@dataclasses.dataclass(frozen=True, eq=False)
class WindowRequests(Sequence[Request]):
    """One request a window, built on access: all together would be many times as large as the text."""

    windows: Sequence[Window]
    metadata: Record

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> LoglikelihoodRequest:  # pyright: ignore[reportIncompatibleMethodOverride]
        window = self.windows[index]
        metadata = {
            **self.metadata, "document": window.document, "start": window.start, "piece": window.piece,
            "place": window.offset, "weight": window.weight,
        }  # fmt: skip
        return LoglikelihoodRequest(window.tokens_T, metadata, window.first_scored)


@dataclasses.dataclass(frozen=True)
class LossRecord:
    """The record of a window: its loss, and that of each bucket of neighboring positions.

    Attributes:
      length: of windows; positions 1 ... length - 1 can be scored.
      buckets: number of buckets that positions are split into; 0: losses by position are not kept.

    """

    length: int
    buckets: int

    def __call__(self, request: Request, response: LoglikelihoodResult) -> Record:
        assert isinstance(request, LoglikelihoodRequest)
        nll_U = response.nll_U.astype(np.float64)
        record = {"nll": finite_or_none(float(nll_U.sum())), "n": len(nll_U), "hits": int(response.is_greedy_U.sum())}
        first = request.metadata["place"] + request.first_scored
        return record | self.by_position(nll_U, first) if self.buckets else record

    def by_position(self, nll_U: np.ndarray, first: int) -> Record:
        """Return the mean loss of each bucket, None where none of its tokens is scored, and their number."""
        edges = self.edges()
        bucket_U = np.searchsorted(edges, np.arange(first, first + len(nll_U)), side="right") - 1
        count = np.bincount(bucket_U, minlength=len(edges))
        mean = np.bincount(bucket_U, nll_U, minlength=len(edges)) / np.maximum(count, 1)
        means = [finite_or_none(x) if n else None for x, n in zip(mean, count, strict=True)]
        return {"bucket_nll": means, "bucket_n": count.tolist()}

    def edges(self) -> list[int]:
        """Return the first position of each bucket."""
        positions = np.arange(1, self.length)
        return [int(part[0]) for part in np.array_split(positions, min(self.buckets, len(positions)))]
