"""What evaluators ask of a model, what it answers, and what is kept of that.

Letters: T tokens of a question, U of them scored.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Record = dict[str, Any]  # what JSON can hold


@dataclasses.dataclass(frozen=True, eq=False)
class HowLikely:
    """How likely are these tokens?

    Attributes:
      tokens_T: int32, with the token that opens a text where the evaluator wants one.
      about: what is known beforehand and kept in the record: length, depth, references ...
      first: tokens before it are context; it and all after it are scored.

    """

    tokens_T: np.ndarray
    about: Record
    first: int = 1

    @property
    def new(self) -> int:
        return 0


@dataclasses.dataclass(frozen=True, eq=False)
class WhatNext:
    """What follows these tokens? Always the likeliest token, until one that ends the text, or `stop`, or `new` tokens.

    Attributes:
      tokens_T: the prompt, int32, with the token that opens a text.
      about: what is known beforehand and kept in the record.
      new: at most so many tokens.
      stop_ids: tokens that end the answer, beside the one that ends a text; they are not part of it.
      stop_texts: the answer ends before the first of them.
      least: neither ends it before so many tokens.

    """

    tokens_T: np.ndarray
    about: Record
    new: int
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    least: int = 0


class Likelihood(NamedTuple):
    """Of the scored tokens: -log p, and whether each was the likeliest, which is what greedy decoding would say."""

    nll_U: np.ndarray
    hit_U: np.ndarray


class Continuation(NamedTuple):
    """What was said. `reason`: eos, stop or length; `logprob` is the sum over what was said."""

    text: str
    ids: tuple[int, ...]
    reason: str
    logprob: float


Question = HowLikely | WhatNext
Answer = Likelihood | Continuation
Ask = Callable[[Sequence[Question]], list[Answer]]  # a model under test
Keep = Callable[[Question, Any], Record]


def kept(question: Question, answer: Answer) -> Record:
    """-> what is recorded of an answer, unless a task wants more."""
    if isinstance(answer, Continuation):
        return {
            "prediction": answer.text, "n_new": len(answer.ids), "finish_reason": answer.reason,
            "logprob": finite(answer.logprob),
        }  # fmt: skip
    hits, n = int(answer.hit_U.sum()), len(answer.hit_U)
    return {"nll": finite(float(answer.nll_U.sum(dtype=np.float64))), "n": n, "hits": hits}


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Questions that share a file of records.

    Attributes:
      name: benchmark, then what else tells it apart, as its folder: "ruler/4096/vt".
      questions: all of them, in an order that every run repeats.
      settings: all that makes the questions what they are, for the manifest: version, seed, hashes of data ...
      keep: (question, answer) -> what the record holds beside question.about.

    """

    name: str
    questions: Sequence[Question]
    settings: Record
    keep: Keep = kept

    @property
    def benchmark(self) -> str:
        return self.name.split("/")[0]


def finite(x: float) -> float | None:
    """JSON has no NaN."""
    return float(x) if np.isfinite(x) else None


def sha256(data: bytes | str | np.ndarray) -> str:
    """-> of a text, or of the bytes of an array (little-endian int32 for token ids)."""
    raw = data.encode() if isinstance(data, str) else data.tobytes() if isinstance(data, np.ndarray) else data
    return hashlib.sha256(raw).hexdigest()
