"""Fits samples to a length: RULER's two algorithms, and ours, by which each sample is as long as possible."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from longjax.evals.ruler.sample import RulerSample, SampleMaker, SampleSeed
from longjax.evals.ruler.token_counter import TokenCounter

GUESSES = 8  # tries by interpolation; bisection thereafter


class TooShortError(ValueError):
    """A length is too short for a task."""


@dataclasses.dataclass(frozen=True, eq=False)
class Room:
    """The tokens that a sample has to fit into.

    Attributes:
      counter: of tokens.
      length: limit of the tokens of prompt and answer together.
      max_new_tokens: tokens of the answer.
      num_bos: number of tokens that open a text, 0 or 1.

    """

    counter: TokenCounter
    length: int
    max_new_tokens: int
    num_bos: int


class FittedSample(NamedTuple):
    """A sample that fits, its size in units of the task, and the number of its tokens."""

    size: int
    sample: RulerSample
    tokens: int


Fits = Iterator[FittedSample | None]  # None: even the smallest is too long


class Sizing(Protocol):
    """An algorithm that chooses the size of samples."""

    def __call__(self, maker: SampleMaker, room: Room, sample_seeds: Iterable[SampleSeed]) -> Fits:
        """Yield the sample of each seed at the largest size that fits, or None."""
        ...


class SizedSample:
    """Number of tokens of one sample by size; keeps the samples that it has made in `fits`."""

    def __init__(self, maker: SampleMaker, sample_seed: SampleSeed, count: Callable[[str], int]):
        self.maker, self.sample_seed, self.count = maker, sample_seed, count
        self.fits: dict[int, FittedSample] = {}

    def __call__(self, n: int) -> int:
        sample = self.maker(self.sample_seed, n)
        self.fits[n] = FittedSample(n, sample, self.count(sample.text))
        return self.fits[n].tokens


@dataclasses.dataclass(frozen=True)
class Exact:
    """The largest size that fits, searched for each sample with exact counts, the token that opens a text included.

    So a sample is short of its length by less than one unit (a word; a line of noise, about 25 tokens; a line of two
    identifiers, up to 100): it fills 95% of a length of which a unit is less than 5%.
    """

    def __call__(self, maker: SampleMaker, room: Room, sample_seeds: Iterable[SampleSeed]) -> Fits:
        limit, counter, guess = room.length - room.max_new_tokens - room.num_bos, room.counter, room.length // 8
        for sample_seed in sample_seeds:
            sized = SizedSample(maker, sample_seed, counter.quick)
            n = largest(sized, limit, maker.min_size, maker.max_size, guess)
            if not counter.is_exact and (n is None or sized.fits[n].tokens != counter.whole(sized.fits[n].sample.text)):
                sized = SizedSample(maker, sample_seed, counter.whole)
                n = largest(sized, limit, maker.min_size, maker.max_size, n or guess)
            guess = n or guess
            yield None if n is None else sized.fits[n]


@dataclasses.dataclass(frozen=True)
class Linear:
    """RULER of 2024: one draw grows by steps until it is too long; the others shrink from there until they fit.

    RULER tries step after step, in a time that grows with the square of the length; the last step that fits is searched
    here.

    Attributes:
      start: smallest size that is tried.
      step: of sizes.
      reserve: tokens kept for the answer; 0 for fwe, whose samples are therefore too long.
      answers: the first draw also has room for its reference answers.

    """

    start: int
    step: int
    reserve: int
    answers: bool = True

    def __call__(self, maker: SampleMaker, room: Room, sample_seeds: Iterable[SampleSeed]) -> Fits:
        sample_seeds, start, limit = list(sample_seeds), max(self.start, maker.min_size), room.length - self.reserve

        def tokens(steps: int) -> int:
            sample = maker(sample_seeds[0], start + steps * self.step)
            return room.counter.exact(sample.text + " ".join(sample.outputs if self.answers else []))

        last = (maker.max_size - start) // self.step
        steps = largest(tokens, limit - 1, 0, last, room.length // 8 // self.step)
        n = maker.max_size if last < 0 or steps == last else start + (steps or 0) * self.step
        yield from shrunk(n, self.step, limit, maker, room, sample_seeds)


@dataclasses.dataclass(frozen=True)
class Bisect:
    """RULER's main branch: the largest size with which one draw fits; the others shrink by steps until they fit."""

    step: int

    def __call__(self, maker: SampleMaker, room: Room, sample_seeds: Iterable[SampleSeed]) -> Fits:
        sample_seeds, limit = list(sample_seeds), room.length - room.max_new_tokens
        sized = SizedSample(maker, sample_seeds[0], room.counter.exact)
        n = largest(sized, limit, maker.min_size, maker.max_size, room.length // 8)
        yield from shrunk(n or maker.min_size, self.step, limit, maker, room, sample_seeds)


def shrunk(n: int, step: int, limit: int, maker: SampleMaker, room: Room, sample_seeds: Iterable[SampleSeed]) -> Fits:
    """Yield samples of size n, or as many steps smaller as are needed. RULER's loop may never end; this one does."""
    for sample_seed in sample_seeds:
        sized = SizedSample(maker, sample_seed, room.counter.exact)
        yield next((sized.fits[m] for m in range(n, maker.min_size - 1, -step) if sized(m) <= limit), None)


def largest(count: Callable[[int], int], limit: int, min_size: int, max_size: int, guess: int) -> int | None:
    """Find the size whose token count is the limit, or else the largest whose count is below it.

    Args:
      count: size -> number of tokens, which grows with the size, more or less.
      limit: of the tokens.
      min_size: smallest size.
      max_size: largest size.
      guess: size that is tried first.

    Returns:
      The size, for which `count` has been called; if its count is below the limit, so it has for the next size. None:
      the smallest size is too large.

    """
    low, high, counts = min_size - 1, max_size + 1, {}
    for trial in range(high - low):
        if high - low < 2:
            break
        n = min(max(guess, low + 1), high - 1)
        counts[n] = count(n)
        if counts[n] == limit:
            return n
        low, high = (n, high) if counts[n] <= limit else (low, n)
        middle = (low + high) // 2 if high in counts else 2 * n  # no sample is made that is far too long
        guess = middle if trial >= GUESSES else interpolated(counts, n, limit)
    return low if low >= min_size else None


def interpolated(counts: dict[int, int], n: int, limit: int) -> int:
    """Return the size at which the limit would be reached if tokens grew evenly."""
    mean = max(counts[n], 1) / max(n, 1)
    other = min((m for m in counts if m != n), key=lambda m: abs(m - n), default=None)
    slope = mean if other is None else (counts[n] - counts[other]) / (n - other)
    slope = min(max(slope, mean / 2), 2 * mean)
    step = (limit - counts[n]) / slope
    return n + (max(1, int(step)) if step >= 0 else min(-1, int(step - 0.999)))
