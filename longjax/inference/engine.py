"""Runs requests of evaluators on a model: batched log-likelihoods and generation, on one device or a mesh."""

import contextlib
import dataclasses
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from longjax.data.tokenizer import Tokenizer
from longjax.evals.batching import Batch, Batcher, BatchPlan
from longjax.evals.requests import (
    GenerationRequest,
    LoglikelihoodRequest,
    LoglikelihoodResult,
    Record,
    Request,
    Response,
)
from longjax.inference.generator import Generator, pad_rows
from longjax.inference.rope_length import LengthPolicy, lengths_used, stateless
from longjax.inference.score import Scorer
from longjax.methods.identity import stable_repr
from longjax.model.llama import Llama
from longjax.sharding.out_of_memory import explain_oom


@dataclasses.dataclass(frozen=True, eq=False)
class InferenceEngine:
    """Batches requests by length, runs them, and returns responses in the order of the requests.

    It is the `EvalModel` of evaluations and, called, their `RequestFn`.

    Attributes:
      model: with train=False.
      params: on the device, or spread over the mesh.
      tokenizer: of the model; generation only.
      metadata: what the model is (checkpoint, method ...), for the records of a run.
      mesh: devices that rows, sequences and weights are split over; None: one.
      batch_tokens: tokens of a batch, padding included; a batch has at least one row, however long.
      max_length: tokens of a request, those to be generated included; None: any number.
      rope_length: the length that chooses a request's RoPE frequencies, given those of the requests before it.

    """

    model: Llama
    params: Any
    tokenizer: Tokenizer
    metadata: Record
    mesh: jax.sharding.Mesh | None = None
    batch_tokens: int = 16_384
    max_length: int | None = None
    rope_length: LengthPolicy = stateless

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.model, self.params, self.mesh, self.tokenizer.vocab)

    @cached_property
    def generator(self) -> Generator:
        return Generator(self.model, self.params, self.tokenizer, self.mesh)

    def __call__(self, requests: Sequence[Request]) -> list[Response]:
        """Returns a response to each request. Raises ValueError as `plan` and `run_batch` do."""
        responses: dict[int, Response] = {}
        for batch in self.plan(requests).batches:
            results = self.run_batch(batch, [requests[i] for i in batch.indices])
            responses |= dict(zip(batch.indices, results, strict=True))
        return [responses[i] for i in range(len(requests))]

    def plan(self, requests: Sequence[Request], done: Collection[int] = ()) -> BatchPlan:
        """Groups requests into batches; those whose indices are `done` are left out.

        Raises ValueError if one of the others is too long or has a token the model lacks.
        """
        for number, request in enumerate(requests):
            if number not in done:
                self.check(number, request)
        row_multiple = self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.mesh else 1
        batcher = Batcher(self.batch_tokens, row_multiple, self.row_tokens, self.group_key, self.rope_lengths)
        return batcher(requests, done)

    def rope_lengths(self, lengths: Sequence[int]) -> list[int]:
        """Returns the lengths that choose the RoPE frequencies of requests of these lengths, in their order."""
        return list(lengths_used(self.rope_length, lengths, self.model.cfg.trained_len))

    def check(self, number: int, request: Request) -> None:
        """Raises ValueError if the request is too long, or has a token that the model lacks."""
        length, largest = len(request.tokens_T) + request.max_new_tokens, int(request.tokens_T.max(initial=0))
        if self.max_length and length > self.max_length:
            raise ValueError(
                f"request {number} has {length} tokens with those to be generated, over --max_length={self.max_length}"
            )
        if largest >= self.model.cfg.vocab:
            raise ValueError(f"request {number} has token {largest}, but the vocabulary has {self.model.cfg.vocab}")

    def row_tokens(self, length: int) -> int:
        """Returns the tokens of a row that `length` tokens take, inserted ones included."""
        insert = self.model.method.insert_tokens
        return length if insert is None else insert(np.zeros((1, length), np.int32), 0)[0].shape[1] + 1

    def group_key(self, request: Request) -> str:
        """Returns what tells attentions apart: requests of a batch share one."""
        return stable_repr(self.model.attention(len(request.tokens_T) + request.max_new_tokens))

    def run_batch(self, batch: Batch, requests: Sequence[Request]) -> list[Response]:
        """Returns a response to each request of a batch of the plan.

        Raises ValueError, naming the flags that help, if the batch does not fit into the device's memory.
        """
        message = (
            f"out of memory: a batch of {batch.shape.rows} x {batch.shape.size} tokens does not fit; lower "
            "--batch_tokens, or split the model with --mesh_model, the sequence with --mesh_seq"
        )
        with explain_oom(message):
            return self.run_program(batch, requests)

    def run_program(self, batch: Batch, requests: Sequence[Request]) -> list[Response]:
        """Runs the batch's program; rows that no request fills repeat the last one."""
        rows = [min(b, len(requests) - 1) for b in range(batch.shape.rows)]
        padded, rope_length_B = [requests[b] for b in rows], np.array([batch.lengths[b] for b in rows])
        with jax.set_mesh(self.mesh) if self.mesh else contextlib.nullcontext():
            if batch.shape.kind == "generation":
                prompts = [request for request in padded if isinstance(request, GenerationRequest)]
                return list(self.generator(prompts, batch.shape.size, rope_length_B)[: len(requests)])
            texts = [request for request in padded if isinstance(request, LoglikelihoodRequest)]
            return self.loglikelihoods(texts, batch.shape.size, rope_length_B)[: len(requests)]

    def loglikelihoods(
        self, requests: Sequence[LoglikelihoodRequest], size: int, rope_length_B: np.ndarray
    ) -> list[Response]:
        """Scores requests in rows of `size` tokens."""
        length_B = np.array([len(request.tokens_T) for request in requests], np.int32)
        nll_BT, hit_BT = self.scorer(
            pad_rows([request.tokens_T for request in requests], size), length_B, rope_length_B
        )
        spans = [slice(request.first_scored, length) for request, length in zip(requests, length_B, strict=True)]
        return [LoglikelihoodResult(nll_BT[b, span], hit_BT[b, span]) for b, span in enumerate(spans)]

    def cost(self) -> Record:
        """Returns the device's kind and the peak of its memory since the process began; None if it is not known."""
        stats = jax.local_devices()[0].memory_stats() or {}
        return {"device": jax.local_devices()[0].device_kind, "peak_bytes": stats.get("peak_bytes_in_use")}
