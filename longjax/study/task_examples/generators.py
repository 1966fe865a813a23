"""Questions to practise: as the evaluators ask them, each in another place of the text. Letters: T tokens."""

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from longjax.data.passkey_text import DIGITS, PasskeyText
from longjax.data.tokenizer import encode_inside
from longjax.evals.context import EvalContext
from longjax.evals.haystack import read_haystack
from longjax.evals.longbench.tasks import record_metadata, wordings
from longjax.evals.manyshot import KIND, example, label_file, labelled
from longjax.evals.needle.facts import PROMPT, Needles
from longjax.evals.needle.insertion import full_stops, insert
from longjax.evals.requests import GenerationRequest, LoglikelihoodRequest, Record, Request
from longjax.evals.ruler import TooShortError
from longjax.evals.ruler.haystacks import Essays, InEssays
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import FittedSample
from longjax.evals.ruler.niah import NeedlesInHay
from longjax.evals.ruler.sample import Growing, RulerSample, SampleSeed
from longjax.evals.ruler.tasks import sample_row
from longjax.evals.ruler.versions import BASES, VERSIONS, RulerTask, make
from longjax.study.task_examples import facts
from longjax.study.task_examples.answers import best_answer

CHARACTERS = 8  # of a token, at most, on average
DEPTHS = np.arange(0, 101, 5)  # in percent
ENTRY = "Question: {}\nType: {}\n"

Ask = Callable[["GeneratorContext", int, int, np.random.Generator], Iterator[Request]]  # (desk, length, count, rng)


@dataclasses.dataclass(frozen=True, eq=False)
class GeneratorContext:
    """All that questions are made of."""

    kit: RulerInputs

    @property
    def material(self) -> EvalContext:
        return self.kit.material

    @property
    def opens(self) -> np.ndarray:
        """-> the token that opens a text, if there is one."""
        return self.material.ids("")[: int(self.material.tokenizer.bos_id >= 0)]

    @functools.cached_property
    def text(self) -> str:
        return read_haystack(self.material).text

    @functools.cached_property
    def phrases(self) -> PasskeyText:
        return PasskeyText.of(self.material.tokenizer)

    @functools.cached_property
    def stops(self) -> set[int]:
        return full_stops(self.material.tokenizer)

    def excerpt(self, rng: np.random.Generator, tokens: int) -> str:
        """-> whole words from some place of the text, enough for so many tokens unless the text is short."""
        start = int(rng.integers(max(1, len(self.text) - CHARACTERS * tokens)))
        found = self.text[start : start + CHARACTERS * tokens]
        return found.partition(" ")[2] or found

    @functools.lru_cache(4)  # noqa: B019 (a desk lives as long as its process): a sample asks for the same at all sizes
    def essays(self, seed: int, tokens: int) -> Essays:
        rng, words = np.random.default_rng(seed), []
        while not words:  # a place may hold blanks alone
            words = self.excerpt(rng, tokens).split()
        return Essays(words)

    def elsewhere(self, grow: Growing, length: int) -> Growing:
        """-> with its needles in excerpts, if they lie in essays at all."""
        if not (isinstance(grow, NeedlesInHay) and isinstance(grow.hay, InEssays)):
            return grow
        return dataclasses.replace(grow, hay=Anywhere(self, length, grow.hay.join))

    def ids(self, rng: np.random.Generator, tokens: int) -> np.ndarray:
        return np.resize(self.material.tokenizer.encode(self.excerpt(rng, tokens)), tokens)

    @functools.cached_property
    def classes(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """-> questions with their types: examples, and those that are asked."""
        train, test = (labelled(label_file(self.material, name, 1), False)[0] for name in ("train", "test"))
        return train, test

    @functools.cached_property
    def per_shot(self) -> float:
        """-> tokens of an example of many."""
        text = "".join(ENTRY.format(*one) for one in self.classes[0][:100])
        return len(self.material.tokenizer.encode(text)) / len(self.classes[0][:100])


@dataclasses.dataclass(frozen=True, eq=False)
class Anywhere:
    """Needles in essays, each sample's in another excerpt."""

    desk: GeneratorContext
    length: int
    join: Callable[[list[str]], str]

    def __call__(self, rng: random.Random, n: int, needles: Sequence[str]) -> str:
        essays = self.desk.essays(rng.getrandbits(32), self.length)
        return InEssays(essays, self.join)(rng, n, needles)


@dataclasses.dataclass(frozen=True)
class OfRuler:
    """One of RULER's tasks, its samples as long as they may be."""

    task: str

    def __call__(self, desk: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
        seed, counter = int(rng.integers(2**62)), desk.kit.counter
        try:
            made = make(VERSIONS["exact"], self.task, length, seed, desk.kit)
        except TooShortError:
            return
        made = made._replace(grow=desk.elsewhere(made.grow, length))
        chances = [SampleSeed(seed, self.task, i) for i in rng.integers(made.grow.samples, size=count).tolist()]
        said = (best_answer(known(made, chance, made.grow(chance, made.grow.least))) for chance in chances)
        room = dataclasses.replace(made.room, new=max(map(counter.quick, said)) + 1)  # and the end
        for chance, fit in zip(chances, made.sizing(made.grow, room, chances), strict=True):
            if fit:
                text_T = np.concatenate([desk.opens, counter.ids(fit.sample.text)])
                yield GenerationRequest(text_T, known(made, chance, fit.sample), made.room.new)


def known(made: RulerTask, chance: SampleSeed, sample: RulerSample) -> Record:
    """-> what the evaluator knows of a sample."""
    return {"references": sample.outputs, **sample_row(made, chance, FittedSample(0, sample, 0))["about"]}


def needle_example(desk: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
    """A sentence on what is best to do in a town, in the study's prompt."""
    for _ in range(count):
        yield from hidden_example(desk, length, rng, facts.fact_sentences(rng, desk.kit.words))


def number_example(desk: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
    for _ in range(count):
        yield from hidden_example(desk, length, rng, facts.magic(rng))


def hidden_example(
    desk: GeneratorContext, length: int, rng: np.random.Generator, needles: Needles
) -> Iterator[Request]:
    """-> the question that these needles are asked by, unless it is too long."""
    tokenizer, material = desk.material.tokenizer, desk.material
    sentences = [tokenizer.encode(text).tolist() for text in needles.sentences]
    frame = PROMPT.format(context="", question=needles.question) + needles.lead
    answer = encode_inside(tokenizer, f" {needles.answer}")
    room, depth = length - len(material.ids(frame)) - len(answer) - 1, float(rng.choice(DEPTHS))
    if sum(map(len, sentences)) > room:
        return
    ids = insert(desk.ids(rng, length).tolist(), sentences, depth, room, desk.stops)
    prompt = PROMPT.format(context=tokenizer.decode(ids), question=needles.question) + needles.lead
    tokens_T = np.concatenate([material.ids(prompt), np.array(answer, np.int32)])
    if len(tokens_T) < length:
        yield LoglikelihoodRequest(tokens_T, {}, first=len(tokens_T) - len(answer))


def passkey_example(desk: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
    """In the study's sentences; the keys are none that are evaluated."""
    phrases, opens = desk.phrases, desk.opens
    size = length - len(opens) - 1
    for _ in range(count if size >= phrases.needle_size + phrases.ask_size else 0):
        prompt = phrases.prompt(rng, desk.ids(rng, length), size, float(rng.choice(DEPTHS)) / 100, held_out=False)
        yield LoglikelihoodRequest(np.concatenate([opens, prompt]), {}, first=len(opens) + size - DIGITS)


def manyshot_example(desk: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
    """Some examples, at most as many as there is room for."""
    (train, test), (prompt,) = desk.classes, wordings(desk.material, {KIND}).values()
    most = int(0.9 * length / desk.per_shot) - 4
    for _ in range(count if most > 0 else 0):
        chosen = rng.choice(len(train), min(len(train), int(rng.integers(1, most + 1))), replace=False)
        record = example(train, chosen, *test[int(rng.integers(len(test)))])
        ids = desk.material.ids(prompt.template.format(context=record["context"], input=record["input"]))
        if len(ids) + prompt.new <= length:
            yield GenerationRequest(ids, record_metadata(record, 0), prompt.new)


GENERATORS: dict[str, Ask] = {task: OfRuler(task) for task in BASES} | {
    "needle": needle_example, "number": number_example, "passkey": passkey_example, "manyshot": manyshot_example,
}  # fmt: skip
