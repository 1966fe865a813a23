"""Haystacks of RULER's needles: n words of essays, or n lines.

A haystack is called with (rng, n, needles) and returns the text. Needles keep their order in essays; in lines RULER
reverses it.
"""

import bisect
import dataclasses
import functools
import itertools
import random
import re
from collections.abc import Callable, Sequence

import numpy as np

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."  # arXiv 2305.16300
DEPTHS = tuple(int(d) for d in np.round(np.linspace(0, 100, 40)).astype(int))  # in percent of the sentences
ENDS = re.compile(r"[.!?][\"'\u201d\u2019)\]]*$")
TITLES = re.compile(r"(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|e\.g|i\.e|cf|No|Fig|Vol|p|pp|[A-Z])\.$")  # end no sentence

IS = " is: "  # between key and value of a needle

Hay = Callable[[random.Random, int, Sequence[str]], str]


@dataclasses.dataclass(frozen=True, eq=False)
class Essays:
    """A running text, which is repeated where more words are needed."""

    words: Sequence[str]

    @functools.cached_property
    def sentences(self) -> tuple[list[str], list[int]]:
        """All sentences, and the number of words up to the end of each."""
        ends = [i + 1 for i, word in enumerate(self.words) if ENDS.search(word) and not TITLES.match(word)]
        ends = ends if ends and ends[-1] == len(self.words) else [*ends, len(self.words)]
        starts = [0, *ends[:-1]]
        return [" ".join(self.words[a:b]) for a, b in zip(starts, ends, strict=True)], ends

    def first(self, n: int) -> list[str]:
        """Return the sentences of the first n words; the last may be cut."""
        sentences, ends = self.sentences
        repeats, rest = divmod(n, len(self.words))
        whole = bisect.bisect_right(ends, rest)
        done = ends[whole - 1] if whole else 0
        return sentences * repeats + sentences[:whole] + ([" ".join(self.words[done:rest])] if rest > done else [])


@dataclasses.dataclass(frozen=True, eq=False)
class InEssays:
    """Needles between sentences, at depths of a grid of 40.

    Attributes:
      essays: the text.
      join: joins pieces of text, some of which may be empty.

    """

    essays: Essays
    join: Callable[[list[str]], str]

    def __call__(self, rng: random.Random, n: int, needles: Sequence[str]) -> str:
        sentences = self.essays.first(n)
        depths = sorted(rng.sample(DEPTHS, len(needles)))
        positions = [0, *(len(sentences) * depth // 100 for depth in depths), len(sentences)]
        spans = [" ".join(sentences[a:b]) for a, b in itertools.pairwise(positions)]
        return self.join([piece for pair in zip(spans, [*needles, ""], strict=True) for piece in pair][:-1])


def join_nonempty(pieces: list[str]) -> str:
    """Join pieces that are not empty."""
    return " ".join(piece for piece in pieces if piece)


def join_all(pieces: list[str]) -> str:
    """Join all pieces, as RULER does, so that a needle at depth 0 has a space before it."""
    return " ".join(pieces)


@dataclasses.dataclass(frozen=True, eq=False)
class InLines:
    """Needles between n lines, each of which is drawn by `line`."""

    line: Callable[[random.Random], str]

    def __call__(self, rng: random.Random, n: int, needles: Sequence[str]) -> str:
        positions = sorted(rng.sample(range(max(n, len(needles))), len(needles)), reverse=True)
        heads, lines = {needle.partition(IS)[0] for needle in needles}, []
        while len(lines) < n:
            line = self.line(rng)
            if line.partition(IS)[0] not in heads:  # no second value for a key
                lines.append(line)
        for position, needle in zip(positions, needles, strict=True):
            lines.insert(position, needle)
        return "\n".join(lines)


def noise(_: random.Random) -> str:
    """Return the line of noise."""
    return NOISE
