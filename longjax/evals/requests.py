"""What evaluators ask of a model, what it answers, and what is kept of that.

Letters: T tokens of a question, U of them scored.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Record = dict[str, Any]  # what JSON can hold


@dataclasses.dataclass(frozen=True, eq=False)
class LoglikelihoodRequest:
    """How likely are these tokens?

    Attributes:
      tokens_T: int32, with the token that opens a text where the evaluator wants one.
      about: what is known beforehand and kept in the record: length, depth, references ...
      first: tokens before it are context; it and all after it are scored.

    """

    tokens_T: np.ndarray
    metadata: Record
    first: int = 1

    @property
    def max_new_tokens(self) -> int:
        return 0


@dataclasses.dataclass(frozen=True, eq=False)
class GenerationRequest:
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
    metadata: Record
    max_new_tokens: int
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    min_new_tokens: int = 0


class LoglikelihoodResult(NamedTuple):
    """Of the scored tokens: -log p, and whether each was the likeliest, which is what greedy decoding would say."""

    nll_U: np.ndarray
    is_greedy_U: np.ndarray


class GenerationResult(NamedTuple):
    """What was said. `reason`: eos, stop or length; `logprob` is the sum over what was said."""

    text: str
    ids: tuple[int, ...]
    finish_reason: str
    logprob: float


Request = LoglikelihoodRequest | GenerationRequest
Response = LoglikelihoodResult | GenerationResult
RequestFn = Callable[[Sequence[Request]], list[Response]]  # a model under test
ToRecord = Callable[[Request, Any], Record]


def to_record(question: Request, answer: Response) -> Record:
    """-> what is recorded of an answer, unless a task wants more."""
    if isinstance(answer, GenerationResult):
        return {
            "prediction": answer.text, "n_new": len(answer.ids), "finish_reason": answer.finish_reason,
            "logprob": finite_or_none(answer.logprob),
        }  # fmt: skip
    hits, n = int(answer.is_greedy_U.sum()), len(answer.is_greedy_U)
    return {"nll": finite_or_none(float(answer.nll_U.sum(dtype=np.float64))), "n": n, "hits": hits}


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
    requests: Sequence[Request]
    settings: Record
    to_record: ToRecord = to_record

    @property
    def benchmark(self) -> str:
        return self.name.split("/")[0]


def finite_or_none(x: float) -> float | None:
    """JSON has no NaN."""
    return float(x) if np.isfinite(x) else None
