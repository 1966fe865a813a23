"""Generators of task examples: the tests' requests, each with another stretch of text. Letters: T tokens."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from longjax.data.passkey_text import DIGITS
from longjax.evals.longbench.tasks import prompts_of, record_metadata
from longjax.evals.manyshot import KIND, example
from longjax.evals.needle.facts import PROMPT, Needles
from longjax.evals.needle.insertion import insert
from longjax.evals.requests import GenerationRequest, LoglikelihoodRequest, Record, Request
from longjax.evals.ruler import TooShortError
from longjax.evals.ruler.length_fitting import FittedSample
from longjax.evals.ruler.sample import RulerSample, SampleSeed
from longjax.evals.ruler.tasks import sample_row
from longjax.evals.ruler.versions import BASES, VERSIONS, RulerTask, make_task
from longjax.study.task_examples import facts
from longjax.study.task_examples.answers import best_answer
from longjax.study.task_examples.generator_context import GeneratorContext

DEPTHS = np.arange(0, 101, 5)  # in percent

# (context, length, count, rng) -> at most `count` requests that fit into `length` tokens with their best answers
TaskGenerator = Callable[[GeneratorContext, int, int, np.random.Generator], Iterator[Request]]


@dataclasses.dataclass(frozen=True)
class RulerGenerator:
    """Generates requests of one of RULER's tasks, each as long as possible.

    Attributes:
      task: name of the task.

    """

    task: str

    def __call__(
        self, context: GeneratorContext, length: int, count: int, rng: np.random.Generator
    ) -> Iterator[Request]:
        """Yields requests; none if the length is too short for the task."""
        seed, counter = int(rng.integers(2**62)), context.inputs.counter
        try:
            task = make_task(VERSIONS["exact"], self.task, length, seed, context.inputs)
        except TooShortError:
            return
        task = task._replace(maker=context.with_excerpts(task.maker, length))
        sample_seeds = [
            SampleSeed(seed, self.task, i) for i in rng.integers(task.maker.num_samples, size=count).tolist()
        ]
        shortest = ((sample_seed, task.maker(sample_seed, task.maker.min_size)) for sample_seed in sample_seeds)
        answers = [best_answer(sample_metadata(task, *pair)) for pair in shortest]
        room = dataclasses.replace(task.room, max_new_tokens=max(map(counter.quick, answers)) + 1)  # and the EOS id
        for sample_seed, fit in zip(sample_seeds, task.sizing(task.maker, room, sample_seeds), strict=True):
            if fit:
                text_T = np.concatenate([context.bos, counter.ids(fit.sample.text)])
                metadata = sample_metadata(task, sample_seed, fit.sample)
                yield GenerationRequest(text_T, metadata, task.room.max_new_tokens)


def sample_metadata(task: RulerTask, sample_seed: SampleSeed, sample: RulerSample) -> Record:
    """Returns the metadata that RULER's requests have."""
    return {"references": sample.outputs, **sample_row(task, sample_seed, FittedSample(0, sample, 0))["about"]}


def needle_requests(context: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
    """Yields needle requests about the best things to do in a city."""
    for _ in range(count):
        yield from hidden_needles(context, length, rng, facts.city_facts(rng, context.inputs.words))


def number_requests(context: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
    """Yields needle requests about the number of a city."""
    for _ in range(count):
        yield from hidden_needles(context, length, rng, facts.city_numbers(rng))


def hidden_needles(
    context: GeneratorContext, length: int, rng: np.random.Generator, needles: Needles
) -> Iterator[Request]:
    """Yields the request that hides these needles in an excerpt, unless it is too long."""
    tokenizer, ctx = context.ctx.tokenizer, context.ctx
    sentences = [tokenizer.encode(text).tolist() for text in needles.sentences]
    frame = PROMPT.format(context="", question=needles.question) + needles.answer_prefix
    answer = tokenizer.encode_inside(f" {needles.answer}")
    room, depth = length - len(ctx.ids(frame)) - len(answer) - 1, float(rng.choice(DEPTHS))
    if sum(map(len, sentences)) > room:
        return
    ids, _ = insert(context.excerpt_ids(rng, length).tolist(), sentences, depth, room, context.sentence_end)
    prompt = PROMPT.format(context=tokenizer.decode(ids), question=needles.question) + needles.answer_prefix
    tokens_T = np.concatenate([ctx.ids(prompt), np.array(answer, np.int32)])
    if len(tokens_T) < length:
        yield LoglikelihoodRequest(tokens_T, {}, first_scored=len(tokens_T) - len(answer))


def passkey_requests(context: GeneratorContext, length: int, count: int, rng: np.random.Generator) -> Iterator[Request]:
    """Yields pass-key requests with keys that the tests do not use."""
    text, bos = context.passkey_text, context.bos
    size = length - len(bos) - 1
    for _ in range(count if size >= text.needle_size + text.question_size else 0):
        source, depth = context.excerpt_ids(rng, length), float(rng.choice(DEPTHS)) / 100
        prompt = text.prompt(rng, source, size, depth, held_out=False)
        yield LoglikelihoodRequest(np.concatenate([bos, prompt]), {}, first_scored=len(bos) + size - DIGITS)


def manyshot_requests(
    context: GeneratorContext, length: int, count: int, rng: np.random.Generator
) -> Iterator[Request]:
    """Yields many-shot requests with a random number of examples, at most as many as fit."""
    (train, test), (prompt,) = context.labeled_questions, prompts_of(context.ctx, {KIND}).values()
    max_shots = int(0.9 * length / context.tokens_per_shot) - 4
    for _ in range(count if max_shots > 0 else 0):
        chosen = rng.choice(len(train), min(len(train), int(rng.integers(1, max_shots + 1))), replace=False)
        record = example(train, chosen, *test[int(rng.integers(len(test)))])
        ids = context.ctx.ids(prompt.template.format(context=record["context"], input=record["input"]))
        if len(ids) + prompt.max_new_tokens <= length:
            yield GenerationRequest(ids, record_metadata(record, 0), prompt.max_new_tokens)


GENERATORS: dict[str, TaskGenerator] = {task: RulerGenerator(task) for task in BASES} | {
    "needle": needle_requests, "number": number_requests, "passkey": passkey_requests, "manyshot": manyshot_requests,
}  # fmt: skip
