"""How large samples become: RULER's two ways, and ours, by which each is as long as it may be."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from longjax.evals.ruler.sample import Growing, RulerSample, SampleSeed
from longjax.evals.ruler.token_counter import TokenCounter

GUESSES = 8  # by interpolation; halving thereafter


class TooShortError(ValueError):
    """A length in which a task cannot be asked."""


@dataclasses.dataclass(frozen=True, eq=False)
class Room:
    """What a sample has to fit in.

    Attributes:
      counter: of tokens.
      length: of prompt and answer together.
      new: tokens of the answer.
      begin: tokens that open a text, 0 or 1.

    """

    counter: TokenCounter
    length: int
    new: int
    begin: int


class FittedSample(NamedTuple):
    """A sample that fits, its size, and its tokens."""

    size: int
    sample: RulerSample
    tokens: int


Fits = Iterator[FittedSample | None]  # None: even the smallest is too long


class Sizing(Protocol):
    def __call__(self, grow: Growing, room: Room, chances: Iterable[SampleSeed]) -> Fits: ...


class Weighed:
    """Tokens of one sample at any size; remembers what it has counted."""

    def __init__(self, grow: Growing, chance: SampleSeed, count: Callable[[str], int]):
        self.grow, self.chance, self.count = grow, chance, count
        self.fits: dict[int, FittedSample] = {}

    def __call__(self, n: int) -> int:
        sample = self.grow(self.chance, n)
        self.fits[n] = FittedSample(n, sample, self.count(sample.text))
        return self.fits[n].tokens


@dataclasses.dataclass(frozen=True)
class Exact:
    """The largest size that fits, searched for each sample on true counts; the token that opens a text has room.

    So a sample lacks less than one unit (a word; a line of noise, about 25 tokens; a line of two identifiers, up to
    100): it fills 95% of its length wherever a unit is less than 5% of it.
    """

    def __call__(self, grow: Growing, room: Room, chances: Iterable[SampleSeed]) -> Fits:
        limit, counter, guess = room.length - room.new - room.begin, room.counter, room.length // 8
        for chance in chances:
            weigh = Weighed(grow, chance, counter.quick)
            n = largest(weigh, limit, grow.least, grow.most, guess)
            if not counter.sure and (n is None or weigh.fits[n].tokens != counter.whole(weigh.fits[n].sample.text)):
                weigh = Weighed(grow, chance, counter.whole)
                n = largest(weigh, limit, grow.least, grow.most, n or guess)
            guess = n or guess
            yield None if n is None else weigh.fits[n]


@dataclasses.dataclass(frozen=True)
class Linear:
    """RULER of 2024: grows by steps until too long and goes one back, on one draw; others lose steps until they fit.

    Attributes:
      start, step: of sizes.
      reserve: tokens of the answer that sizing knows of; fwe's is 0, so that its samples are too long.
      answers: sizing has room for them, once more.

    """

    start: int
    step: int
    reserve: int
    answers: bool = True

    def __call__(self, grow: Growing, room: Room, chances: Iterable[SampleSeed]) -> Fits:
        chances, n, limit = list(chances), max(self.start, grow.least), room.length - self.reserve

        def fits(n: int) -> bool:
            sample = grow(chances[0], n)
            return room.counter.exact(sample.text + " ".join(sample.outputs if self.answers else [])) < limit

        while n <= grow.most and fits(n):
            n += self.step
        n = grow.most if n > grow.most else max(n - self.step, self.start, grow.least)
        yield from fewer(n, self.step, limit, grow, room, chances)


@dataclasses.dataclass(frozen=True)
class Bisect:
    """RULER's main branch: the largest size that fits on one draw; others lose whole steps until they fit."""

    step: int

    def __call__(self, grow: Growing, room: Room, chances: Iterable[SampleSeed]) -> Fits:
        chances, limit = list(chances), room.length - room.new
        weigh = Weighed(grow, chances[0], room.counter.exact)
        n = largest(weigh, limit, grow.least, grow.most, room.length // 8)
        yield from fewer(n or grow.least, self.step, limit, grow, room, chances)


def fewer(n: int, step: int, limit: int, grow: Growing, room: Room, chances: Iterable[SampleSeed]) -> Fits:
    """-> samples of size n, or as many steps smaller as it takes. RULER's loop may never end."""
    for chance in chances:
        weigh = Weighed(grow, chance, room.counter.exact)
        yield next((weigh.fits[m] for m in range(n, grow.least - 1, -step) if weigh(m) <= limit), None)


def largest(count: Callable[[int], int], limit: int, least: int, most: int, guess: int) -> int | None:
    """-> an n of least .. most whose count is the limit, or else the largest whose count is below; None: there is none.

    count grows with n, more or less: what comes out has been counted, and if it is below, so has n + 1.
    """
    low, high, found = least - 1, most + 1, {}
    for turn in range(high - low):
        if high - low < 2:
            break
        n = min(max(guess, low + 1), high - 1)
        found[n] = count(n)
        if found[n] == limit:
            return n
        low, high = (n, high) if found[n] <= limit else (low, n)
        middle = (low + high) // 2 if high in found else 2 * n  # no sample is made that is far too long
        guess = middle if turn >= GUESSES else interpolated(found, n, limit)
    return low if low >= least else None


def interpolated(found: dict[int, int], n: int, limit: int) -> int:
    """-> where the limit would be reached if tokens grew evenly."""
    mean = max(found[n], 1) / max(n, 1)
    other = min((m for m in found if m != n), key=lambda m: abs(m - n), default=None)
    slope = mean if other is None else (found[n] - found[other]) / (n - other)
    slope = min(max(slope, mean / 2), 2 * mean)
    step = (limit - found[n]) / slope
    return n + (max(1, int(step)) if step >= 0 else min(-1, int(step - 0.999)))
