"""Variable tracking: find the variables that hold a value by a chain of assignments (RULER, arXiv:2404.06654)."""

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

    def __call__(self, prompt: RulerPrompt, sample_seed: SampleSeed, n: int) -> str:
        """Return the example."""
        ...


def join_lines(lines: Sequence[str]) -> str:
    """Join lines by line ends."""
    return "\n".join(lines)


def join_as_in_2024(lines: Sequence[str]) -> str:
    """Join lines by spaces; only lines of noise have a line end."""
    return " ".join(line + "\n" if line == NOISE else line for line in lines)


@dataclasses.dataclass(frozen=True)
class ExamplePerSample:
    """An example that is drawn for each sample, in the form of the question."""

    lines: Lines

    def __call__(self, prompt: RulerPrompt, sample_seed: SampleSeed, n: int) -> str:
        rng = random.Random(f"{sample_seed.seed}/{sample_seed.task}/{sample_seed.index}/example")
        text, names = question_and_names(prompt, rng, SHOT_LETTERS, n, self.lines)
        return text + " " + " ".join(names) + "\n\n"


@dataclasses.dataclass(frozen=True)
class SharedExample:
    """The example of 2024, the same for all samples; its question lacks the line ends and the last word."""

    lines: Lines

    def __call__(self, prompt: RulerPrompt, sample_seed: SampleSeed, n: int) -> str:
        prompt = prompt._replace(template=" ".join(prompt.template.split()[:-1]))
        text, names = question_and_names(prompt, sample_seed.shared_order(), SHOT_LETTERS, n, self.lines)
        return " " + text + " " + " ".join(names) + "\n\n\n\n"


@dataclasses.dataclass(frozen=True, eq=False)
class Chains:
    """The task; its size is the number of lines of noise.

    Attributes:
      prompt: of the task.
      lines: joins lines.
      shot: the solved example.
      noise: number of lines of noise in the example.

    """

    prompt: RulerPrompt
    lines: Lines
    shot: Shot
    noise: int
    min_size: int = 0
    max_size: int = 10**9
    num_samples: int = 10**9

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        example = self.shot(self.prompt, sample_seed, self.noise)
        rng = sample_seed.rng()
        names, value = random_names(rng, LETTERS)
        context = self.lines(assignments(rng, names, value, n))
        fields = {"query": value, "num_v": str(len(names))}
        metadata = {"keys": [value], "depths": [round(context.find(f"VAR {x} =") / len(context), 4) for x in names]}
        text = self.prompt.template.format(context=context, **fields)
        return RulerSample(example + text, self.prompt.answer_prefix.format(**fields), names, metadata)


@dataclasses.dataclass(frozen=True, eq=False)
class SolvedExample:
    """The example alone, which is fitted to a room of its own; its size is the number of lines of noise."""

    prompt: RulerPrompt
    shot: Shot
    min_size: int = 0
    max_size: int = 10**9
    num_samples: int = 1

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        return RulerSample(self.shot(self.prompt, sample_seed, n), "", [], {})


def question_and_names(
    prompt: RulerPrompt, rng: random.Random, letters: int, n: int, lines: Lines
) -> tuple[str, list[str]]:
    """Return a question with the beginning of its answer, and the names that the answer has."""
    names, value = random_names(rng, letters)
    fields = {"query": value, "num_v": str(len(names))}
    context = lines(assignments(rng, names, value, n))
    return prompt.template.format(context=context, **fields) + prompt.answer_prefix.format(**fields), names


def random_names(rng: random.Random, letters: int, count: int = 5) -> tuple[list[str], str]:
    """Draw the names of a chain, four hops long, and its value."""
    names = []
    while len(names) < count:
        name = "".join(rng.choices(string.ascii_uppercase, k=letters))
        if name not in names:
            names.append(name)
    return names, str(rng.randint(10_000, 99_998))


def assignments(rng: random.Random, names: Sequence[str], value: str, n: int) -> list[str]:
    """Return n lines of noise, with the chain in order at random positions among them."""
    chain = [f"VAR {names[0]} = {value}"] + [f"VAR {b} = VAR {a} " for a, b in itertools.pairwise(names)]
    positions = sorted(rng.sample(range(max(n, len(chain))), len(chain)))  # those beyond the noise go to its end
    lines = [NOISE] * n
    for i, (position, line) in enumerate(zip(positions, chain, strict=True)):
        lines.insert(i + position, line)
    return lines
