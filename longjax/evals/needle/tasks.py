"""A needle in a haystack: a grid of lengths and depths, a question a cell.

The study (arXiv:2409.12181, figure 1) hides one sentence at ten depths and lets the model answer freely. A number
can be hidden instead: whether greedy decoding says all its tokens is known without decoding.
"""

import dataclasses
from typing import Literal

import numpy as np
from absl import logging

from longjax.data.tokenizer import encode_inside
from longjax.evals.context import EvalContext
from longjax.evals.haystack import Haystack, read_haystack
from longjax.evals.needle.facts import MAX_NEEDLES, PROMPT, Needles, best_things, number_needles
from longjax.evals.needle.insertion import BosCodec, Codec, PlainCodec, full_stops, insert, trimmed
from longjax.evals.requests import GenerationRequest, LoglikelihoodRequest, Request, Task

NEW = 50  # tokens of an answer
STUDY_LENGTHS = np.linspace(1000, 128_000, 40).round().astype(int).tolist()


@dataclasses.dataclass(frozen=True)
class NeedleTest:
    """What is hidden in the haystack, where, and how the text around it is made."""

    needle_kind: Literal["sentence", "number"] = "sentence"  # number: nothing is decoded, so it is cheap
    needle_count: int = 1  # sentences of as many cities, all asked for; numbers: all but the first distract
    needle_depths: int = 10  # cells of a length, from 0 to 100 percent
    needle_spacing: Literal["linear", "sigmoid"] = "linear"  # of depths; sigmoid: more of them near both ends
    needle_lengths: Literal["given", "study"] = "given"  # study: those of its 40 lengths up to the longest of --lengths
    needle_bos: Literal["clean", "lceg"] = "clean"  # lceg: an opening token before the needle, as in the study's code
    needle_buffer: int = 200  # of a length, tokens left to prompt, question and answer

    def __post_init__(self):
        if not 1 <= self.needle_count <= MAX_NEEDLES:
            raise ValueError(f"--needle_count={self.needle_count} must be from 1 to {MAX_NEEDLES}")
        for name, least, value in (("depths", 1, self.needle_depths), ("buffer", 0, self.needle_buffer)):
            if value < least:
                raise ValueError(f"--needle_{name}={value} must be at least {least}")

    def depths(self, most: int | None = None) -> list[float]:
        """-> in percent; at most so many."""
        even = np.linspace(0, 100, min(self.needle_depths, most or self.needle_depths))
        if self.needle_spacing == "linear":
            return even.round().astype(int).tolist()
        curve = (100 / (1 + np.exp(-0.1 * (even - 50)))).round(3)
        return np.where(even % 100 == 0, even, curve).tolist()

    def lengths(self, material: EvalContext) -> list[int]:
        if self.needle_lengths == "given":
            return list(material.lengths)
        return [length for length in STUDY_LENGTHS if length <= max(material.lengths)]

    def codec(self, material: EvalContext) -> Codec:
        if self.needle_bos == "clean":
            return PlainCodec(material.tokenizer)
        if material.tokenizer.bos_id < 0:
            raise ValueError(f"--needle_bos=lceg: {material.tokenizer.path} has no token that opens a text")
        return BosCodec(material.tokenizer)

    def tasks(self, material: EvalContext) -> list[Task]:
        lengths = self.lengths(material)
        grid = NeedleGrid(self, material, read_haystack(material), self.codec(material))
        found = [task for length in lengths if (task := grid.task(length))]
        if not found:
            raise ValueError(
                f"--lengths={','.join(map(str, lengths))}: none has room for a needle and --needle_buffer="
                f"{self.needle_buffer}; choose longer ones"
            )
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class NeedleGrid:
    """All that the cells share."""

    test: NeedleTest
    material: EvalContext
    haystack: Haystack
    codec: Codec

    def task(self, length: int) -> Task | None:
        """-> a cell a depth; None if needles, question and answer have no room."""
        context = trimmed(self.haystack.repeated(self.material.tokenizer, length), length, self.codec)
        cells = [self.cell(context, length, depth) for depth in self.test.depths(self.material.max_examples)]
        questions = [question for question in cells if question]
        if len(questions) < len(cells):
            logging.warning("needles are left out at --lengths=%d: it has no room for them", length)
            return None
        settings = {**dataclasses.asdict(self.test), "seed": self.material.seed, **self.haystack.about}
        kind = self.test.needle_kind + "_lceg" * (self.test.needle_bos == "lceg")
        return Task(f"needle/{kind}/{length}", questions, settings)

    def cell(self, context: list[int], length: int, depth: float) -> Request | None:
        needles, room = self.needles(length, depth), length - self.test.needle_buffer
        encoded = [self.codec.encode(text) for text in needles.sentences]
        if sum(map(len, encoded)) >= room:
            return None
        ids = insert(context, encoded, depth, room, full_stops(self.material.tokenizer))
        prompt = PROMPT.format(context=self.codec.decode(ids), question=needles.question) + needles.lead
        question = self.question(with_bos(self.codec.encode(prompt), self.material.tokenizer.bos_id), needles)
        question.metadata.update({"length": length, "depth": depth / 100, **self.haystack.about})
        return question if len(question.tokens_T) + question.max_new_tokens <= length else None

    def needles(self, length: int, depth: float) -> Needles:
        if self.test.needle_kind == "sentence":
            return best_things(self.test.needle_count)
        rng = np.random.default_rng((self.material.seed, length, round(1000 * depth)))
        return number_needles(self.test.needle_count, rng)

    def question(self, prompt: list[int], needles: Needles) -> Request:
        about = {
            "form": self.test.needle_kind, "references": needles.facts, "answer": needles.answer,
            "needle": "".join(needles.sentences), "n_bos": prompt.count(self.material.tokenizer.bos_id),
        }  # fmt: skip
        if self.test.needle_kind == "sentence":
            return GenerationRequest(np.array(prompt, np.int32), about, NEW)
        answer = encode_inside(self.material.tokenizer, f" {needles.answer}")
        return LoglikelihoodRequest(np.array([*prompt, *answer], np.int32), about, first=len(prompt))


def with_bos(ids: list[int], begin: int) -> list[int]:
    """-> with the token that opens a text, if there is one, once."""
    return ids if begin < 0 or ids[0] == begin else [begin, *ids]
