"""A model under test: questions go to the device in batches, answers come back as numbers and text."""

import contextlib
import dataclasses
from collections.abc import Sequence
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
from longjax.methods.identity import described
from longjax.model.llama import Llama


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageModel:
    """A `Subject` of evaluations, and, called, an `Ask`.

    Attributes:
      model: not for training.
      params: on the device, or spread over the mesh.
      tokenizer: of the model.
      about: what the model is: checkpoint, method ...
      budget: tokens of a call, about.
      limit: tokens of question and answer, at most; None: any number.
      growth: which length chooses the frequencies of a question, after those before it in its task.

    """

    model: Llama
    params: Any
    tokenizer: Tokenizer
    metadata: Record
    mesh: jax.sharding.Mesh | None = None
    budget: int = 16_384
    max_programs: int | None = None
    rope_length: LengthPolicy = stateless

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.model, self.params, self.mesh)

    @cached_property
    def generator(self) -> Generator:
        return Generator(self.model, self.params, self.tokenizer, self.mesh)

    def __call__(self, questions: Sequence[Request]) -> list[Response]:
        answers: dict[int, Response] = {}
        for batch in self.plan(questions).batches:
            found = self.run_batch(batch, [questions[i] for i in batch.numbers])
            answers |= dict(zip(batch.numbers, found, strict=True))
        return [answers[i] for i in range(len(questions))]

    def plan(self, questions: Sequence[Request]) -> BatchPlan:
        """Raises ValueError if a question is too long, or is not of this model's tokens."""
        for number, question in enumerate(questions):
            self.check(number, question)
        parts = self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.mesh else 1
        return Batcher(self.budget, parts, self.with_inserted, self.group_key, self.rope_lengths)(questions)

    def rope_lengths(self, lengths: Sequence[int]) -> list[int]:
        return list(lengths_used(self.rope_length, lengths, self.model.cfg.trained_len))

    def check(self, number: int, question: Request) -> None:
        length, newest = len(question.tokens_T) + question.max_new_tokens, int(question.tokens_T.max(initial=0))
        if self.max_programs and length > self.max_programs:
            raise ValueError(
                f"question {number} has {length} tokens with its answer, over --max_length={self.max_programs}"
            )
        if newest >= self.model.cfg.vocab:
            raise ValueError(f"question {number} has token {newest}, but the model knows {self.model.cfg.vocab}")

    def with_inserted(self, length: int) -> int:
        insert = self.model.method.insert_tokens
        return length if insert is None else insert(np.zeros((1, length), np.int32), 0)[0].shape[1] + 1

    def group_key(self, question: Request) -> str:
        """Questions that one attention can answer."""
        return described(self.model.attention(len(question.tokens_T) + question.max_new_tokens))

    def run_batch(self, batch: Batch, questions: Sequence[Request]) -> list[Response]:
        """Raises ValueError if the call does not fit into the device's memory."""
        try:
            return self.run_program(batch, questions)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise ValueError(
                f"a call of {batch.shape.rows} x {batch.shape.size} tokens does not fit into a device's memory: lower "
                "--batch_tokens, or split the model with --mesh_model, the sequence with --mesh_seq"
            ) from error

    def run_program(self, batch: Batch, questions: Sequence[Request]) -> list[Response]:
        rows = [min(b, len(questions) - 1) for b in range(batch.shape.rows)]
        asked, used_B = [questions[b] for b in rows], np.array([batch.lengths[b] for b in rows])
        with jax.set_mesh(self.mesh) if self.mesh else contextlib.nullcontext():
            if batch.shape.kind == "generation":
                spoken = self.generator(
                    [q for q in asked if isinstance(q, GenerationRequest)], batch.shape.size, used_B
                )
                return list(spoken[: len(questions)])
            likely = self.likelihoods(
                [q for q in asked if isinstance(q, LoglikelihoodRequest)], batch.shape.size, used_B
            )
            return likely[: len(questions)]

    def likelihoods(self, asked: Sequence[LoglikelihoodRequest], size: int, used_B: np.ndarray) -> list[Response]:
        length_B = np.array([len(q.tokens_T) for q in asked], np.int32)
        nll_BT, hit_BT = self.scorer(pad_rows([q.tokens_T for q in asked], size), length_B, used_B)
        spans = [slice(q.first, length) for q, length in zip(asked, length_B, strict=True)]
        return [LoglikelihoodResult(nll_BT[b, span], hit_BT[b, span]) for b, span in enumerate(spans)]

    def cost(self) -> Record:
        """-> the most memory that a device has held since the process began, where it tells."""
        stats = jax.local_devices()[0].memory_stats() or {}
        return {"device": jax.local_devices()[0].device_kind, "peak_bytes": stats.get("peak_bytes_in_use")}
