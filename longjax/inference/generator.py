"""Batched greedy generation on the host: token prompts in, texts out. B rows of a batch, C tokens of a row at most."""

import bisect
import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import sharding
from longjax.attention.backends import default_decode_backend
from longjax.data.tokenizer import Tokenizer
from longjax.evals.requests import GenerationRequest, GenerationResult
from longjax.inference.decode import EOS, LENGTH, RUNNING, STOP, DecodeState, StopRules, decode, prefill
from longjax.inference.score import RopesByLength
from longjax.model.llama import Llama
from longjax.sharding.cache_parallel import InferencePlacement, init_sharded_cache
from longjax.sharding.partition import BATCH

STOP_CHECK_TOKENS = 32  # tokens between two searches for stop texts
FINISH_REASONS = {EOS: "eos", STOP: "stop", LENGTH: "length"}


@dataclasses.dataclass(frozen=True, eq=False)
class Generator:
    """Continues prompts greedily; a continuation does not depend on the other rows of the batch or on padding.

    Attributes:
      model: with train=False.
      params: on the device, or spread over the mesh.
      tokenizer: decodes continuations; its eos_ids end them.
      mesh: None: one device. Else it must be current (jax.set_mesh).

    """

    model: Llama
    params: Any
    tokenizer: Tokenizer
    mesh: jax.sharding.Mesh | None = None

    @cached_property
    def by_length(self) -> RopesByLength:
        return RopesByLength(self.model, self.params)

    @cached_property
    def prefill_model(self) -> Llama:
        """The model that reads prompts."""
        return dataclasses.replace(self.model, placement=InferencePlacement()) if self.mesh else self.model

    @cached_property
    def decode_model(self) -> Llama:
        """The model that reads one token a row."""
        return dataclasses.replace(self.prefill_model, backend=default_decode_backend())

    def __call__(
        self, requests: Sequence[GenerationRequest], size: int, rope_length_B: np.ndarray
    ) -> list[GenerationResult]:
        """Generates a continuation for each request.

        Args:
          requests: that share one attention (`InferenceEngine.group_key`).
          size: C, enough for the longest prompt, its continuation and inserted tokens.
          rope_length_B: lengths that choose the frequencies of each row.

        """
        prompts = [self.with_inserted(request.tokens_T) for request in requests]
        longest = max(len(request.tokens_T) + request.max_new_tokens for request in requests)
        length = self.by_length.representative(longest)
        rope, rules = self.by_length.rope(rope_length_B), self.stop_rules(requests)
        tokens_BC, length_B = pad_rows(prompts, size), np.array([len(prompt) for prompt in prompts], np.int32)
        cache = init_sharded_cache(self.model, len(requests), size, length, self.mesh)
        placed = self.place_on_mesh(tokens_BC), self.place_on_mesh(length_B)
        state = prefill(self.prefill_model, length, self.params, rope, cache, *placed, rules)
        steps = STOP_CHECK_TOKENS if any(request.stop_texts for request in requests) else size
        while (sharding.gather_to_host(state.finish_reason_B) == RUNNING).any():
            state = decode(self.decode_model, length, self.params, rope, state, rules, np.int32(steps))
            state = self.end_at_stop_texts(state, requests, length_B)
        return self.results(state, requests, length_B)

    def with_inserted(self, tokens_T: np.ndarray) -> np.ndarray:
        """Returns the prompt with the tokens that the method inserts."""
        insert = self.model.method.insert_tokens
        return tokens_T if insert is None else insert(tokens_T[None], self.model.cfg.vocab - 1)[0][0]

    def stop_rules(self, requests: Sequence[GenerationRequest]) -> StopRules:
        """Returns when the rows of these requests end, as arrays."""
        most = max(1, *(len(request.stop_ids) for request in requests))
        stop_ids_BS = pad_rows([np.asarray(request.stop_ids, np.int32) for request in requests], most, -1)
        min_new_B = np.array([request.min_new_tokens for request in requests], np.int32)
        max_new_B = np.array([request.max_new_tokens for request in requests], np.int32)
        eos_ids_E = jnp.array(self.tokenizer.eos_ids or (-1,), jnp.int32)
        return StopRules(
            eos_ids_E, jnp.int32(self.tokenizer.vocab), *map(self.place_on_mesh, (stop_ids_BS, min_new_B, max_new_B))
        )

    def place_on_mesh(self, x: np.ndarray) -> Any:
        """Returns the array on the device, or its rows on the devices that compute them."""
        if self.mesh is None:
            return jnp.asarray(x)
        return sharding.to_global_array(x, jax.NamedSharding(self.mesh, jax.P(BATCH, *[None] * (x.ndim - 1))))

    def end_at_stop_texts(
        self, state: DecodeState, requests: Sequence[GenerationRequest], length_B: np.ndarray
    ) -> DecodeState:
        """Ends the rows whose continuation contains a stop text."""
        if not any(request.stop_texts for request in requests):
            return state
        reason_B = sharding.gather_to_host(state.finish_reason_B).copy()
        for b, (request, ids) in enumerate(zip(requests, self.new_ids(state, length_B), strict=True)):
            if reason_B[b] == RUNNING and cut_at_stop(self.tokenizer.decode(ids), request.stop_texts)[1]:
                reason_B[b] = STOP
        return state.replace(finish_reason_B=self.place_on_mesh(reason_B))

    def new_ids(self, state: DecodeState, length_B: np.ndarray) -> list[np.ndarray]:
        """Returns the generated ids of each row, without inserted tokens. `length_B`: tokens of the prompts."""
        tokens_BC, end_B = sharding.gather_to_host(state.tokens_BC), sharding.gather_to_host(state.index_B) + 1
        insert, C = self.model.method.insert_tokens, tokens_BC.shape[1]
        real_C = ~insert.is_inserted(np.arange(C)) if insert else np.ones(C, bool)
        spans = [slice(start, end) for start, end in zip(length_B, end_B, strict=True)]
        return [row_C[span][real_C[span]] for row_C, span in zip(tokens_BC, spans, strict=True)]

    def results(
        self, state: DecodeState, requests: Sequence[GenerationRequest], length_B: np.ndarray
    ) -> list[GenerationResult]:
        """Returns the continuations of rows that have ended, cut before their stop texts."""
        reason_B, logprob_B = sharding.gather_to_host(state.finish_reason_B), sharding.gather_to_host(state.logprob_B)
        results = []
        rows = zip(requests, self.new_ids(state, length_B), reason_B, logprob_B, strict=True)
        for request, ids, reason, logprob in rows:
            raw_text, was_cut = cut_at_stop(self.tokenizer.decode(ids), request.stop_texts)
            text = scored_text(self.tokenizer, ids, request.stop_texts)
            reason = "stop" if was_cut else FINISH_REASONS[int(reason)]
            results.append(GenerationResult(text, tuple(ids.tolist()), reason, float(logprob), raw_text))
        return results


def scored_text(tokenizer: Tokenizer, ids: np.ndarray, stops: Sequence[str]) -> str:
    """Returns the text of a continuation without special tokens, before the first stop text, which may have some."""

    def has_stop(count: int) -> bool:
        return cut_at_stop(tokenizer.decode(ids[:count]), stops)[1]

    count = bisect.bisect_left(range(len(ids)), True, key=has_stop)
    return cut_at_stop(tokenizer.decode_text(ids[:count]), stops)[0]


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Returns the text before the first stop text, and whether there was one."""
    starts = [start for stop in stops if (start := text.find(stop)) >= 0]
    return (text[: min(starts)], True) if starts else (text, False)


def pad_rows(rows: Sequence[np.ndarray], size: int, value: int = 0) -> np.ndarray:
    """Returns int32 rows of `size` tokens, padded on the right."""
    padded = np.full((len(rows), size), value, np.int32)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return padded
