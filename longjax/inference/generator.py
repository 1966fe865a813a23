"""`generate` on the host: prompts as evaluators ask them, answers as text. B rows of a call, C places of a row."""

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

STOP_CHECK_TOKENS = 32  # tokens between two looks at texts that a string may end
FINISH_REASONS = {EOS: "eos", STOP: "stop", LENGTH: "length"}


@dataclasses.dataclass(frozen=True, eq=False)
class Generator:
    """Continues texts; a row's answer never depends on its neighbours or on padding."""

    model: Llama
    params: Any
    tokenizer: Tokenizer
    mesh: jax.sharding.Mesh | None = None

    @cached_property
    def by_length(self) -> RopesByLength:
        return RopesByLength(self.model, self.params)

    @cached_property
    def prefill_model(self) -> Llama:
        return dataclasses.replace(self.model, placement=InferencePlacement()) if self.mesh else self.model

    @cached_property
    def decode_model(self) -> Llama:
        """One query at a time."""
        return dataclasses.replace(self.prefill_model, backend=default_decode_backend())

    def __call__(self, asked: Sequence[GenerationRequest], size: int, used_B: np.ndarray) -> list[GenerationResult]:
        """-> of questions that one attention can answer, in rows of `size` places, which suffice.

        The lengths `used_B` choose the frequencies.
        """
        prompts = [self.inserted(q.tokens_T) for q in asked]
        like = self.by_length.representative(max(len(q.tokens_T) + q.max_new_tokens for q in asked))
        rope, rules = self.by_length.rope(used_B), self.stop_rules(asked)
        tokens_BC, length_B = pad_rows(prompts, size), np.array([len(p) for p in prompts], np.int32)
        cache = init_sharded_cache(self.model, len(asked), size, like, self.mesh)
        rows = prefill(
            self.prefill_model, like, self.params, rope, cache, *map(self.place_on_mesh, (tokens_BC, length_B)), rules
        )
        turn = STOP_CHECK_TOKENS if any(q.stop_texts for q in asked) else size
        while (sharding.gather_to_host(rows.finish_reason_B) == RUNNING).any():
            rows = decode(self.decode_model, like, self.params, rope, rows, rules, np.int32(turn))
            rows = self.hit_stop_text(rows, asked, length_B)
        return self.generate(rows, asked, length_B)

    def inserted(self, tokens_T: np.ndarray) -> np.ndarray:
        insert = self.model.method.insert_tokens
        return tokens_T if insert is None else insert(tokens_T[None], self.model.cfg.vocab - 1)[0][0]

    def stop_rules(self, asked: Sequence[GenerationRequest]) -> StopRules:
        stops = pad_rows(
            [np.asarray(q.stop_ids, np.int32) for q in asked], max(1, *(len(q.stop_ids) for q in asked)), -1
        )
        least_B, most_B = (
            np.array([getattr(q, name) for q in asked], np.int32) for name in ("min_new_tokens", "max_new_tokens")
        )
        end, words = (jnp.int32(n) for n in (self.tokenizer.eos_id, self.tokenizer.vocab))
        return StopRules(end, words, *map(self.place_on_mesh, (stops, least_B, most_B)))

    def place_on_mesh(self, x: np.ndarray) -> Any:
        """Rows to the devices that compute them."""
        if self.mesh is None:
            return jnp.asarray(x)
        return sharding.to_global_array(x, jax.NamedSharding(self.mesh, jax.P(BATCH, *[None] * (x.ndim - 1))))

    def hit_stop_text(self, rows: DecodeState, asked: Sequence[GenerationRequest], length_B: np.ndarray) -> DecodeState:
        """Rows in whose text a stop has appeared have ended."""
        if not any(q.stop_texts for q in asked):
            return rows
        why_B = sharding.gather_to_host(rows.finish_reason_B).copy()
        for b, (q, ids) in enumerate(zip(asked, self.new_ids(rows, length_B), strict=True)):
            if why_B[b] == RUNNING and cut_at_stop(self.tokenizer.decode(ids), q.stop_texts)[1]:
                why_B[b] = STOP
        return rows.replace(finish_reason_B=self.place_on_mesh(why_B))

    def new_ids(self, rows: DecodeState, length_B: np.ndarray) -> list[np.ndarray]:
        """-> what each row has said so far."""
        tokens_BC, end_B = sharding.gather_to_host(rows.tokens_BC), sharding.gather_to_host(rows.index_B) + 1
        insert = self.model.method.insert_tokens
        kept_C = ~insert.is_inserted(np.arange(tokens_BC.shape[1])) if insert else np.ones(tokens_BC.shape[1], bool)
        spans = [slice(start, end) for start, end in zip(length_B, end_B, strict=True)]
        return [row[span][kept_C[span]] for row, span in zip(tokens_BC, spans, strict=True)]

    def generate(
        self, rows: DecodeState, asked: Sequence[GenerationRequest], length_B: np.ndarray
    ) -> list[GenerationResult]:
        why_B, logprob_B = sharding.gather_to_host(rows.finish_reason_B), sharding.gather_to_host(rows.logprob_B)
        found = []
        for q, ids, why, logprob in zip(asked, self.new_ids(rows, length_B), why_B, logprob_B, strict=True):
            text, was_cut = cut_at_stop(self.tokenizer.decode(ids), q.stop_texts)
            reason = "stop" if was_cut else FINISH_REASONS[int(why)]
            found.append(GenerationResult(text, tuple(ids.tolist()), reason, float(logprob)))
        return found


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """-> the text before the first of the stops, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def pad_rows(rows: Sequence[np.ndarray], size: int, value: int = 0) -> np.ndarray:
    """-> rows one below the other, padded on the right."""
    padded = np.full((len(rows), size), value, np.int32)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return padded
