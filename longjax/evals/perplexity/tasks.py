"""Perplexity as questions: one a window, by the protocol of choice.

Letters: T tokens of a window, U of them scored.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from longjax.evals.context import EvalContext
from longjax.evals.perplexity.protocols import EvenlySpaced, Nested, Sliding, Strided, Window, Windows, WithoutMemory
from longjax.evals.perplexity.text import EvalText, read_texts
from longjax.evals.requests import LoglikelihoodRequest, LoglikelihoodResult, Record, Request, Task, finite_or_none

Name = Literal["strided", "lceg", "longlora", "yarn", "nonoverlap", "nested", "landmark_lceg", "chunked"]
LCEG_DOCUMENTS = 10  # eval_perplexity reads no more
LANDMARK_PART = 512  # tokens of a forward pass in eval_landmark.py


@dataclasses.dataclass(frozen=True)
class PerplexityTest:
    """Perplexity by protocol, text and length."""

    ppl_protocol: Name = "strided"  # what is scored with how much context; lceg is the study's
    ppl_data: str = ""  # texts in perplexity/, separated by commas; all of them if empty
    ppl_stride: int = 256  # tokens between the starts of windows
    num_windows: int | None = None  # at most so many windows of a text, spread evenly; all
    ppl_documents: int | None = None  # the first so many documents; lceg: 10, else all
    ppl_truncate: bool = False  # strided, yarn, nonoverlap: only the first window of a document
    ppl_least: int | None = None  # strided, yarn, nonoverlap: leave out documents of fewer tokens
    ppl_buckets: int = 32  # of positions in a window, for the loss by position

    def __post_init__(self):
        numbers = {name: value for name, value in dataclasses.asdict(self).items() if type(value) is int}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"--{name}={value} must be at least 1")

    def tasks(self, material: EvalContext) -> list[Task]:
        tokenizer, found = material.tokenizer, read_texts(material, self.ppl_data)
        parts = [
            self.of(x, material.lengths, tokenizer.bos_id, material.trained_len, material.max_examples) for x in found
        ]
        return [task for part in parts for task in part]

    def of(
        self, text: EvalText, lengths: Sequence[int], begin: int = -1, trained_len: int = 4096, most: int | None = None
    ) -> list[Task]:
        """-> a task a length.

        Args:
          text: what is scored.
          lengths: of windows, in tokens.
          begin: the id that opens a text; -1: there is none.
          trained_len: after so many tokens `chunked` starts anew.
          most: windows; None: all.

        """
        limits = [limit for limit in (self.num_windows, most) if limit is not None]
        rest = max(lengths), begin, trained_len, min(limits, default=None)
        return [self.task(text, length, max(lengths), self.windows(length, *rest)) for length in lengths]

    def windows(self, length: int, longest: int, begin: int, trained_len: int, most: int | None) -> Windows:
        """-> the protocol."""
        documents, room = self.ppl_documents, length - (begin >= 0)
        by_document = Strided(None, begin, documents, self.ppl_truncate, self.ppl_least or 0)
        ten = some(Sliding(self.ppl_stride, documents or LCEG_DOCUMENTS), most)
        match self.ppl_protocol:
            case "strided":
                return some(dataclasses.replace(by_document, stride=min(self.ppl_stride, room)), most)
            case "yarn":
                return some(dataclasses.replace(by_document, stride=self.ppl_stride, equal=True), most)
            case "nonoverlap":
                return some(by_document, most)
            case "nested":
                return Nested(longest, most)
            case "longlora":
                return some(Sliding(self.ppl_stride, documents), most)
            case "lceg":
                return ten
            case "landmark_lceg":
                return WithoutMemory(ten, LANDMARK_PART)
            case "chunked":
                return WithoutMemory(ten, trained_len)

    def task(self, text: EvalText, length: int, longest: int, windows: Windows) -> Task:
        protocol = self.ppl_protocol
        about = {"protocol": protocol, "data": text.name, "length": length}
        questions = WindowRequests(windows(text, length), about)
        if not questions:
            raise ValueError(
                f"{text.path} has {len(text.ids)} tokens in {len(text.starts)} documents: no window of {length} tokens "
                f"by --ppl_protocol={protocol}; use a longer text or shorter --lengths"
            )
        settings = {**dataclasses.asdict(self), "windows": repr(windows), "data_sha256": text.sha256}
        again = protocol == "nested" and length < longest  # the same tokens with less context before them
        keep = LossRecord(length, 0 if again else self.ppl_buckets)
        return Task(f"perplexity/{protocol}/{text.name}/{length}", questions, settings, keep)


def some(windows: Windows, most: int | None) -> Windows:
    return windows if most is None else EvenlySpaced(windows, most)


@dataclasses.dataclass(frozen=True, eq=False)
class WindowRequests(Sequence[Request]):
    """One a window, made when it is asked: all together would be many times as large as the text."""

    windows: Sequence[Window]
    about: Record

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, number: int) -> LoglikelihoodRequest:  # pyright: ignore[reportIncompatibleMethodOverride]
        window = self.windows[number]
        about = {
            **self.about, "document": window.document, "start": window.start, "piece": window.piece,
            "place": window.place, "weight": window.weight,
        }  # fmt: skip
        return LoglikelihoodRequest(window.tokens_T, about, window.first)


@dataclasses.dataclass(frozen=True)
class LossRecord:
    """What is recorded of a window: its loss, and that of each bucket of neighbouring positions.

    Attributes:
      length: of windows; places 1 ... length - 1 can be scored.
      buckets: the places are split into; 0: losses by place are not kept.

    """

    length: int
    buckets: int

    def __call__(self, question: Request, answer: LoglikelihoodResult) -> Record:
        assert isinstance(question, LoglikelihoodRequest)
        nll_U = answer.nll_U.astype(np.float64)
        record = {"nll": finite_or_none(float(nll_U.sum())), "n": len(nll_U), "hits": int(answer.is_greedy_U.sum())}
        first = question.metadata["place"] + question.first
        return record | self.by_place(nll_U, first) if self.buckets else record

    def by_place(self, nll_U: np.ndarray, first: int) -> Record:
        """-> mean loss of each bucket, None where nothing of it is scored, and how many tokens are."""
        edges = self.edges()
        bucket_U = np.searchsorted(edges, np.arange(first, first + len(nll_U)), side="right") - 1
        count = np.bincount(bucket_U, minlength=len(edges))
        mean = np.bincount(bucket_U, nll_U, minlength=len(edges)) / np.maximum(count, 1)
        means = [finite_or_none(x) if n else None for x, n in zip(mean, count, strict=True)]
        return {"bucket_nll": means, "bucket_n": count.tolist()}

    def edges(self) -> list[int]:
        """-> the first place of each bucket."""
        places = np.arange(1, self.length)
        return [int(part[0]) for part in np.array_split(places, min(self.buckets, len(places)))]
