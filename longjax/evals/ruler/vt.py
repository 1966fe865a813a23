"""Variable tracking: a chain of assignments among noise; which variables hold the value? (RULER, arXiv:2404.06654)"""

import dataclasses
import itertools
import random
import string
from collections.abc import Callable, Sequence
from typing import Protocol

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.haystacks import NOISE
from longjax.evals.ruler.sample import RulerSample, SampleSeed

LETTERS, SHOT_LETTERS = 5, 3  # of a variable's name; in the example

Lines = Callable[[Sequence[str]], str]


class Shot(Protocol):
    """The solved example before the question, of n lines of noise."""

    def __call__(self, prompt: RulerPrompt, chance: SampleSeed, n: int) -> str: ...


def one_a_line(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def spaced(lines: Sequence[str]) -> str:
    """As in 2024: lines of noise end, those of variables do not, and spaces are between all."""
    return " ".join(line + "\n" if line == NOISE else line for line in lines)


@dataclasses.dataclass(frozen=True)
class Varied:
    """An example of each sample's own, in the form of the question."""

    lines: Lines

    def __call__(self, prompt: RulerPrompt, chance: SampleSeed, n: int) -> str:
        rng = random.Random(f"{chance.seed}/{chance.task}/{chance.index}/example")
        text, names = story(prompt, rng, SHOT_LETTERS, n, self.lines)
        return text + " " + " ".join(names) + "\n\n"


@dataclasses.dataclass(frozen=True)
class Garbled:
    """As in 2024: one for all samples; the question's line ends are gone, and so is its last word."""

    lines: Lines

    def __call__(self, prompt: RulerPrompt, chance: SampleSeed, n: int) -> str:
        prompt = prompt._replace(template=" ".join(prompt.template.split()[:-1]))
        text, names = story(prompt, chance.shared(), SHOT_LETTERS, n, self.lines)
        return " " + text + " " + " ".join(names) + "\n\n\n\n"


@dataclasses.dataclass(frozen=True, eq=False)
class Chains:
    """Grows by lines of noise.

    Attributes:
      prompt: of the task.
      lines: how they stand together.
      shot, noise: the example, and how many lines of noise it has.

    """

    prompt: RulerPrompt
    lines: Lines
    shot: Shot
    noise: int
    least: int = 0
    most: int = 10**9
    samples: int = 10**9

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        example = self.shot(self.prompt, chance, self.noise)
        rng = chance.rng()
        names, value = random_names(rng, LETTERS)
        context = self.lines(assignments(rng, names, value, n))
        asks = {"query": value, "num_v": str(len(names))}
        about = {"keys": [value], "depths": [round(context.find(f"VAR {x} =") / len(context), 4) for x in names]}
        text = self.prompt.template.format(context=context, **asks)
        return RulerSample(example + text, self.prompt.answer_prefix.format(**asks), names, about)


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """The example alone, which grows too: it has room of its own."""

    prompt: RulerPrompt
    shot: Shot
    least: int = 0
    most: int = 10**9
    samples: int = 1

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        return RulerSample(self.shot(self.prompt, chance, n), "", [], {})


def story(prompt: RulerPrompt, rng: random.Random, letters: int, n: int, lines: Lines) -> tuple[str, list[str]]:
    """-> question and the beginning of its answer, and the names that the answer has."""
    names, value = random_names(rng, letters)
    asks = {"query": value, "num_v": str(len(names))}
    context = lines(assignments(rng, names, value, n))
    return prompt.template.format(context=context, **asks) + prompt.answer_prefix.format(**asks), names


def random_names(rng: random.Random, letters: int, count: int = 5) -> tuple[list[str], str]:
    """-> names of a chain, four hops long, and its value."""
    names = []
    while len(names) < count:
        name = "".join(rng.choices(string.ascii_uppercase, k=letters))
        names += [name] if name not in names else []
    return names, str(rng.randint(10_000, 99_998))


def assignments(rng: random.Random, names: Sequence[str], value: str, n: int) -> list[str]:
    """-> n lines of noise, with the chain in order at random places among them."""
    says = [f"VAR {names[0]} = {value}"] + [f"VAR {b} = VAR {a} " for a, b in itertools.pairwise(names)]
    places = sorted(rng.sample(range(max(n, len(says))), len(says)))  # fewer lines than that: the rest at the end
    lines = [NOISE] * n
    for i, (place, line) in enumerate(zip(places, says, strict=True)):
        lines.insert(i + place, line)
    return lines
