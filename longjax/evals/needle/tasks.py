"""Tasks of a needle in a haystack: a grid of lengths and depths, one request a cell.

The study (arXiv:2409.12181, figure 1) hides one sentence at ten depths and lets the model answer freely. A number
can be hidden instead: whether greedy decoding gives all its tokens is known from one forward pass.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np
from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.haystack import Haystack, read_haystack
from longjax.evals.needle.facts import MAX_NEEDLES, PROMPT, Needles, best_things, number_needles
from longjax.evals.needle.insertion import (
    AfterIds,
    AfterSentences,
    BosCodec,
    Codec,
    PlainCodec,
    SentenceEnd,
    full_stops,
    insert,
    trim,
)
from longjax.evals.requests import GenerationRequest, LoglikelihoodRequest, Request, Task

MAX_NEW_TOKENS = 50  # tokens of an answer
STUDY_LENGTHS = np.linspace(1000, 128_000, 40).round().astype(int).tolist()


@dataclasses.dataclass(frozen=True)
class NeedleTest:
    """A needle in a haystack."""

    needle_kind: Literal["sentence", "number"] = "sentence"  # answered freely, or scored without decoding (cheap)
    needle_count: int = 1  # needles of a prompt; sentence: the question is about all; number: about the first
    needle_depths: int = 10  # number of depths, from 0 to 100 percent
    needle_spacing: Literal["linear", "sigmoid"] = "linear"  # of depths; sigmoid: more of them near both ends
    needle_lengths: Literal["given", "study"] = "given"  # --lengths, or the study's 40 up to the longest of --lengths
    needle_bos: Literal["clean", "lceg"] = "clean"  # lceg: an opening token before the needle, as in the study's code
    needle_buffer: int = 200  # tokens of a length that are left for prompt, question and answer

    def __post_init__(self):
        if not 1 <= self.needle_count <= MAX_NEEDLES:
            raise ValueError(f"--needle_count={self.needle_count} must be from 1 to {MAX_NEEDLES}")
        for name, minimum, value in (("depths", 1, self.needle_depths), ("buffer", 0, self.needle_buffer)):
            if value < minimum:
                raise ValueError(f"--needle_{name}={value} must be at least {minimum}")

    def depths(self, max_depths: int | None = None) -> list[float]:
        """Return the depths in percent; at most `max_depths`."""
        even = np.linspace(0, 100, min(self.needle_depths, max_depths or self.needle_depths))
        if self.needle_spacing == "linear":
            return even.round().astype(int).tolist()
        curve = (100 / (1 + np.exp(-0.1 * (even - 50)))).round(3)
        return np.where(even % 100 == 0, even, curve).tolist()

    def lengths(self, ctx: EvalContext) -> list[int]:
        """Return the lengths of prompt and answer, in tokens."""
        if self.needle_lengths == "given":
            return list(ctx.lengths)
        return [length for length in STUDY_LENGTHS if length <= max(ctx.lengths)]

    def codec(self, ctx: EvalContext) -> Codec:
        """Return the codec that --needle_bos names. Raises ValueError if the tokenizer has no opening token for it."""
        if self.needle_bos == "clean":
            return PlainCodec(ctx.tokenizer)
        if ctx.tokenizer.bos_id < 0:
            raise ValueError(f"--needle_bos=lceg: {ctx.tokenizer.path} has no token that opens a text")
        return BosCodec(ctx.tokenizer)

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Return a task for each length that has room for the needles. Raises ValueError if none has."""
        lengths = self.lengths(ctx)
        grid = NeedleGrid(self, ctx, read_haystack(ctx), self.codec(ctx))
        tasks = [task for length in lengths if (task := grid.task(length))]
        if not tasks:
            raise ValueError(
                f"--lengths={','.join(map(str, lengths))}: none has room for a needle and --needle_buffer="
                f"{self.needle_buffer}; choose longer ones"
            )
        return tasks


@dataclasses.dataclass(frozen=True, eq=False)
class NeedleGrid:
    """What the cells of all lengths share."""

    test: NeedleTest
    ctx: EvalContext
    haystack: Haystack
    codec: Codec

    def task(self, length: int) -> Task | None:
        """Return the task of one length; None if needles, question and answer have no room."""
        context = trim(self.haystack.repeated(self.ctx.tokenizer, length), length, self.codec)
        cells = [self.cell(context, length, depth) for depth in self.test.depths(self.ctx.max_examples)]
        requests = [request for request in cells if request]
        if len(requests) < len(cells):
            logging.warning("needles are left out at --lengths=%d: it has no room for them", length)
            return None
        settings = {**dataclasses.asdict(self.test), "seed": self.ctx.seed, **self.haystack.metadata}
        kind = f"{self.test.needle_kind}_lceg" if self.test.needle_bos == "lceg" else self.test.needle_kind
        return Task(f"needle/{kind}/{length}", requests, settings)

    def cell(self, context: list[int], length: int, depth: float) -> Request | None:
        """Return the request of one length and depth, made of the haystack's ids; None if it has no room."""
        needles, room = self.needles(length, depth), length - self.test.needle_buffer
        encoded = [self.codec.encode(text) for text in needles.sentences]
        if sum(map(len, encoded)) >= room:
            return None
        ids, place = insert(context, encoded, depth, room, self.sentence_end)
        prompt = PROMPT.format(context=self.codec.decode(ids), question=needles.question) + needles.answer_prefix
        request = self.request(with_bos(self.codec.encode(prompt), self.ctx.tokenizer.bos_id), needles)
        place_of = {"depth": depth / 100, "true_depth": round(place, 4)}
        request.metadata.update({"length": length, **place_of, **self.haystack.metadata})
        return request if len(request.tokens_T) + request.max_new_tokens <= length else None

    @functools.cached_property
    def sentence_end(self) -> SentenceEnd:
        """Where needles stand: by the study's ids in its own prompts, else by the text."""
        if self.test.needle_bos == "lceg":
            return AfterIds(full_stops(self.ctx.tokenizer))
        return AfterSentences(self.ctx.tokenizer)

    def needles(self, length: int, depth: float) -> Needles:
        """Return the needles of a cell; numbers are drawn by seed, length and depth."""
        if self.test.needle_kind == "sentence":
            return best_things(self.test.needle_count)
        rng = np.random.default_rng((self.ctx.seed, length, round(1000 * depth)))
        return number_needles(self.test.needle_count, rng)

    def request(self, prompt: list[int], needles: Needles) -> Request:
        """Return the request of a prompt's ids."""
        metadata = {
            "form": self.test.needle_kind, "references": needles.facts, "answer": needles.answer,
            "needle": "".join(needles.sentences), "n_bos": prompt.count(self.ctx.tokenizer.bos_id),
        }  # fmt: skip
        if self.test.needle_kind == "sentence":
            return GenerationRequest(np.array(prompt, np.int32), metadata, MAX_NEW_TOKENS)
        answer = self.ctx.tokenizer.encode_inside(f" {needles.answer}")
        return LoglikelihoodRequest(np.array([*prompt, *answer], np.int32), metadata, first_scored=len(prompt))


def with_bos(ids: list[int], bos_id: int) -> list[int]:
    """Return ids that begin with the token that opens a text, once; `bos_id` -1: there is none."""
    return ids if bos_id < 0 or ids[0] == bos_id else [bos_id, *ids]
