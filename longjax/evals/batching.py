"""Splits the requests of a task into batches of few shapes, before anything runs.

Each shape is compiled once, so there are few of them. Letters: B rows of a batch, C tokens of a row at most.
"""

import dataclasses
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import NamedTuple

from longjax.evals.requests import LoglikelihoodRequest, Request


class ProgramShape(NamedTuple):
    """The shape of a compiled program.

    Attributes:
      kind: "likelihood" or "generation".
      rows: B.
      size: C.
      group: the batcher's group key of all requests, which may stand for another program.

    """

    kind: str
    rows: int
    size: int
    group: Hashable = None


class Batch(NamedTuple):
    """The requests of one call.

    Attributes:
      shape: of the program; rows beyond the requests repeat the last of them.
      indices: of the requests in their task.
      lengths: the RoPE length of each request, in tokens.
      tokens: of each request, those to generate included.

    """

    shape: ProgramShape
    indices: tuple[int, ...]
    lengths: tuple[int, ...]
    tokens: tuple[int, ...]


def bucket(size: int) -> int:
    """Return the smallest row size for `size` tokens: powers of two from 64; beyond 8192 also quarters between them."""
    power = max(64, 1 << (size - 1).bit_length())
    quarter = power // 8 if power > 8192 else power
    return -(-size // quarter) * quarter if power > 64 else power


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """The batches of a task, or those that remain of it, in order."""

    batches: tuple[Batch, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all requests, those to generate included."""
        return sum(sum(batch.tokens) for batch in self.batches)

    @property
    def longest(self) -> int:
        """Tokens of the longest request, those to generate included; 0: there is none."""
        return max((tokens for batch in self.batches for tokens in batch.tokens), default=0)

    @property
    def shapes(self) -> set[ProgramShape]:
        """The programs that must be compiled."""
        return {batch.shape for batch in self.batches}

    @property
    def padding(self) -> float:
        """Share of the computed tokens that belongs to no request."""
        computed = sum(batch.shape.rows * batch.shape.size for batch in self.batches)
        return 1 - self.tokens / computed if computed else 0.0

    def lines(self) -> Iterator[str]:
        """Yield a line of text for each shape."""
        for shape in sorted(self.shapes, key=lambda s: s[:3]):
            batches = [batch for batch in self.batches if batch.shape == shape]
            count = sum(len(batch.indices) for batch in batches)
            yield f"{shape.kind}  {shape.rows} x {shape.size}: {count} requests in {len(batches)} batches"


@dataclasses.dataclass(frozen=True)
class Batcher:
    """Batches requests of similar length.

    Attributes:
      budget: approximate number of tokens of a batch; a batch has at least one row.
      parts: the number of rows is a multiple of it, so that a mesh can split them.
      row_tokens: tokens of a request, those to generate included -> tokens that its row needs.
      group_key: requests with different keys never share a batch.
      rope_lengths: the lengths of all requests, in order -> the lengths that their RoPE frequencies are for.

    """

    budget: int
    parts: int = 1
    row_tokens: Callable[[int], int] = int
    group_key: Callable[[Request], Hashable] = lambda request: None
    rope_lengths: Callable[[Sequence[int]], Sequence[int]] = list

    def __call__(self, requests: Sequence[Request], done: Collection[int] = ()) -> BatchPlan:
        """Return the plan of all requests but those whose index is in `done`; the longest come first, to fail at once.

        RoPE lengths are by all requests.
        """
        groups: dict[tuple, list[int]] = {}
        lengths = []
        for index, request in enumerate(requests):
            if index not in done:
                groups.setdefault((*self.kind_and_size(request), self.group_key(request)), []).append(index)
            lengths.append(len(request.tokens_T) + request.max_new_tokens)
        rope_lengths, order = self.rope_lengths(lengths), sorted(groups, key=lambda key: (-key[1], key[0]))
        return BatchPlan(tuple(x for key in order for x in self.split(key, groups[key], lengths, rope_lengths)))

    def kind_and_size(self, request: Request) -> tuple[str, int]:
        """Return the kind of a request's program and the size of its row."""
        length = len(request.tokens_T)
        if isinstance(request, LoglikelihoodRequest):
            return "likelihood", bucket(length)
        return "generation", bucket(self.row_tokens(length + request.max_new_tokens))

    def split(
        self, key: tuple, indices: list[int], lengths: Sequence[int], rope_lengths: Sequence[int]
    ) -> Iterator[Batch]:
        """Yield the batches of the requests with one kind, size and group key."""
        kind, size, group = key
        max_rows = max(1, self.budget // size // self.parts) * self.parts
        enough_rows = self.parts << (-(-len(indices) // self.parts) - 1).bit_length()  # a small task has a small shape
        shape = ProgramShape(kind, min(max_rows, enough_rows), size, group)
        for start in range(0, len(indices), shape.rows):
            part = tuple(indices[start : start + shape.rows])
            yield Batch(shape, part, tuple(rope_lengths[i] for i in part), tuple(lengths[i] for i in part))
