"""How many questions share a call, and how long the rows of a call are. All of it is known before anything runs.

A call has one of few shapes, since each shape is compiled. Letters: B rows of a call, C tokens of a row at most.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from longjax.evals.requests import LoglikelihoodRequest, Request
from longjax.files import sha256_bytes


class ProgramShape(NamedTuple):
    """What is compiled once: the kind of question, B, C, and what else tells programs apart."""

    kind: str
    rows: int
    size: int
    group: Hashable = None


class Batch(NamedTuple):
    """One call: the numbers of its questions; the other rows of the shape repeat the last of them.

    `lengths`, of question and answer, choose the frequencies.
    """

    shape: ProgramShape
    numbers: tuple[int, ...]
    lengths: tuple[int, ...]


def bucket(size: int) -> int:
    """-> the smallest row that holds so many tokens: powers of two, beyond 8192 also quarters between them."""
    power = max(64, 1 << (size - 1).bit_length())
    quarter = power // 8 if power > 8192 else power
    return -(-size // quarter) * quarter if power > 64 else power


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """All calls for the questions of a task, in order."""

    batches: tuple[Batch, ...]
    tokens: int  # of the questions

    @property
    def shapes(self) -> set[ProgramShape]:
        return {batch.shape for batch in self.batches}

    @property
    def padding(self) -> float:
        """-> share of all that is computed which is not asked."""
        computed = sum(batch.shape.rows * batch.shape.size for batch in self.batches)
        return 1 - self.tokens / computed if computed else 0.0

    @functools.cached_property
    def sha256(self) -> str:
        return sha256_bytes(repr(self.batches))

    def lines(self) -> Iterator[str]:
        """One line a shape."""
        for shape in sorted(self.shapes, key=lambda s: s[:3]):
            calls = [batch for batch in self.batches if batch.shape == shape]
            asked = sum(len(batch.numbers) for batch in calls)
            yield f"{shape.kind}  {shape.rows} x {shape.size}: {asked} questions in {len(calls)} calls"


@dataclasses.dataclass(frozen=True)
class Batcher:
    """Puts questions of like length together.

    Attributes:
      budget: tokens of a call, about; a call has at least one row.
      parts: rows are a multiple of it, so that a mesh can split them.
      size: tokens that a question's row takes, answer included, of what the tokens are in number.
      alike: questions with different values never share a call.
      used: the lengths of all questions, in their order -> those that their frequencies are for.

    """

    budget: int
    parts: int = 1
    row_tokens: Callable[[int], int] = int
    group_key: Callable[[Request], Hashable] = lambda question: None
    rope_lengths: Callable[[Sequence[int]], Sequence[int]] = list

    def __call__(self, questions: Sequence[Request]) -> BatchPlan:
        """The same questions always get the same plan. Longest first, so that what does not fit fails at once."""
        groups: dict[tuple, list[int]] = {}
        lengths = []
        for number, question in enumerate(questions):
            groups.setdefault((*self.room(question), self.group_key(question)), []).append(number)
            lengths.append(len(question.tokens_T) + question.max_new_tokens)
        used, order = self.rope_lengths(lengths), sorted(groups, key=lambda key: (-key[1], key[0]))
        batches = [batch for key in order for batch in self.split(key, groups[key], used)]
        return BatchPlan(tuple(batches), sum(lengths))

    def room(self, question: Request) -> tuple[str, int]:
        length = len(question.tokens_T)
        if isinstance(question, LoglikelihoodRequest):
            return "likelihood", bucket(length)
        return "generation", bucket(self.row_tokens(length + question.max_new_tokens))

    def split(self, key: tuple, numbers: list[int], used: Sequence[int]) -> Iterator[Batch]:
        kind, size, alike = key
        most = max(1, self.budget // size // self.parts) * self.parts
        few = self.parts << (-(-len(numbers) // self.parts) - 1).bit_length()  # a small task has a small shape
        shape = ProgramShape(kind, min(most, few), size, alike)
        for start in range(0, len(numbers), shape.rows):
            part = tuple(numbers[start : start + shape.rows])
            yield Batch(shape, part, tuple(used[number] for number in part))
