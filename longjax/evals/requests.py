"""Requests that evaluators make of a model, its responses, and the record that is kept of them.

Letters: T tokens of a request, U of them scored.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Record = dict[str, Any]  # what JSON can hold


@dataclasses.dataclass(frozen=True, eq=False)
class LoglikelihoodRequest:
    """Request for the log-likelihood of given tokens.

    Attributes:
      tokens_T: int32, with the token that opens a text where the evaluator wants one.
      metadata: what is known beforehand and kept in the record: length, depth, references ...
      first_scored: index of the first scored token; those before it are context only.

    """

    tokens_T: np.ndarray
    metadata: Record
    first_scored: int = 1

    @property
    def max_new_tokens(self) -> int:
        """Always 0: nothing is generated."""
        return 0


@dataclasses.dataclass(frozen=True, eq=False)
class GenerationRequest:
    """Request for the greedy continuation of a prompt.

    Generation ends with the tokenizer's EOS id, a stop id, a stop text, or after `max_new_tokens`.

    Attributes:
      tokens_T: the prompt, int32, with the token that opens a text.
      metadata: what is known beforehand and kept in the record.
      max_new_tokens: limit of the generated tokens.
      stop_ids: tokens that end the generation, besides EOS; they are not part of the text.
      stop_texts: the generated text ends before the first of them.
      min_new_tokens: EOS and stop ids cannot end the generation before this many tokens.

    """

    tokens_T: np.ndarray
    metadata: Record
    max_new_tokens: int
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    min_new_tokens: int = 0


class LoglikelihoodResult(NamedTuple):
    """Scores of the scored tokens.

    Attributes:
      nll_U: negative log-likelihood of each, in nats, float32.
      is_greedy_U: whether each was the likeliest, that is the one of greedy decoding.

    """

    nll_U: np.ndarray
    is_greedy_U: np.ndarray


class GenerationResult(NamedTuple):
    """A greedy continuation.

    Attributes:
      text: without stop texts and special tokens: what is scored.
      ids: of the generated tokens.
      finish_reason: eos, stop or length.
      logprob: log-likelihood of all generated tokens, in nats.
      raw_text: with special tokens as they are written.

    """

    text: str
    ids: tuple[int, ...]
    finish_reason: str
    logprob: float
    raw_text: str = ""


Request = LoglikelihoodRequest | GenerationRequest
Response = LoglikelihoodResult | GenerationResult
RequestFn = Callable[[Sequence[Request]], list[Response]]  # a model under test
ToRecord = Callable[[Request, Any], Record]


def to_record(request: Request, response: Response) -> Record:
    """Return what is recorded of a response, for tasks without a `to_record` of their own."""
    if isinstance(response, GenerationResult):
        raw = {"raw_prediction": response.raw_text} if response.raw_text not in ("", response.text) else {}
        return {
            "prediction": response.text, "n_new": len(response.ids), "finish_reason": response.finish_reason,
            "logprob": finite_or_none(response.logprob), **raw,
        }  # fmt: skip
    hits, n = int(response.is_greedy_U.sum()), len(response.is_greedy_U)
    return {"nll": finite_or_none(float(response.nll_U.sum(dtype=np.float64))), "n": n, "hits": hits}


def refuse_nan(name: str, response: Response) -> None:
    """Raise ValueError that begins with `name`, of the request, if a model responds with NaN: no score may be of it."""
    logprob = response.logprob if isinstance(response, GenerationResult) else response.nll_U.sum()
    if np.isnan(logprob):
        raise ValueError(f"{name}: the model's logits are NaN or infinite; check its weights, or set --dtype=float32")


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Requests that share a file of records.

    Attributes:
      name: benchmark, then what else tells the task apart, as its folder: "ruler/4096/vt".
      requests: all of them, in an order that every run repeats.
      settings: all that makes the requests what they are, for the manifest: version, seed, hashes of data ...
      to_record: (request, response) -> what the record holds besides the request's metadata.

    """

    name: str
    requests: Sequence[Request]
    settings: Record
    to_record: ToRecord = to_record

    @property
    def benchmark(self) -> str:
        """First part of the name."""
        return self.name.split("/")[0]


def ended_by_length(records: Sequence[Record]) -> Record:
    """Return the share of the answers that no stop token or text ended, but their limit of tokens.

    None: nothing was generated.
    """
    limited = [record["finish_reason"] == "length" for record in records if "finish_reason" in record]
    return {"ended_by_length": float(np.mean(limited)) if limited else None}


def finite_or_none(x: float) -> float | None:
    """Return a float, or None for NaN and infinities, which JSON cannot hold."""
    return float(x) if np.isfinite(x) else None
