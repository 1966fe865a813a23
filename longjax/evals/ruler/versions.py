"""RULER's tasks in three versions: `2024`, as the study ran it; `main`, as it is now; `exact`, ours.

RULER 2024 is commit e40fae1 of github.com/hsiehjackson/RULER, main is c3f5e3b of NVIDIA/RULER.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from longjax.evals.prompts import RulerPrompt
from longjax.evals.requests import Record
from longjax.evals.ruler import haystacks, vt
from longjax.evals.ruler.cwe import CommonWords, WordCounts
from longjax.evals.ruler.fwe import FrequentWords
from longjax.evals.ruler.haystacks import InEssays, InLines
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import Bisect, Exact, Linear, Room, Sizing
from longjax.evals.ruler.niah import NUMBERS, UUIDS, DistractorNeedle, NeedlesInHay, RandomPair, ValueKind
from longjax.evals.ruler.prompts import corrected, unchanged
from longjax.evals.ruler.qa import Documents, RepeatedDocuments, WordsOfDocuments
from longjax.evals.ruler.sample import Order, SampleMaker, SampleSeed

NOISE, ESSAY, NEEDLE = "noise", "essay", "needle"
SHORT = 4096  # lists have fewer words, and steps are smaller, below
NUMBERED = r"(?<=[0-9]\. )[a-z-]+"  # words of a list


class NiahShape(NamedTuple):
    """What tells the tasks with needles apart.

    Attributes:
      hay: NOISE, ESSAY or NEEDLE.
      key: kind of the keys: words or uuids.
      value: kind of the values: numbers or uuids.
      keys: number of keys.
      values: number of values of each key.
      queries: number of keys in the question.

    """

    hay: str
    key: str = "words"
    value: str = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1


NIAH = {
    "niah_single_1": NiahShape(NOISE),
    "niah_single_2": NiahShape(ESSAY),
    "niah_single_3": NiahShape(ESSAY, value="uuids"),
    "niah_multikey_1": NiahShape(ESSAY, keys=4),
    "niah_multikey_2": NiahShape(NEEDLE),
    "niah_multikey_3": NiahShape(NEEDLE, key="uuids", value="uuids"),
    "niah_multivalue": NiahShape(ESSAY, values=4),
    "niah_multiquery": NiahShape(ESSAY, keys=4, queries=4),
}
BASES = dict.fromkeys(NIAH, "niah") | {
    "vt": "variable_tracking",
    "cwe": "common_words_extraction",
    "fwe": "freq_words_extraction",
    "qa_1": "qa",
    "qa_2": "qa",
}


@dataclasses.dataclass(frozen=True)
class Version:
    """What tells the versions of the benchmark apart.

    Attributes:
      name: of the version.
      prompt: a prompt of the file -> the prompt of this version.
      order: the generator that puts needles, words and documents in order.
      join: joins the pieces of an essay.
      lines: joins the lines of vt.
      shot: the solved example of vt.
      shot_sizing: fits that example to its room.
      shot_room: length -> tokens of that example, at most.
      gap: text before the answer of cwe's example.
      documents: the task of questions on documents.
      sizing: (task, length, new tokens) -> the algorithm that fits samples to the length.

    """

    name: str
    prompt: Callable[[RulerPrompt], RulerPrompt]
    order: Order
    join: Callable[[list[str]], str]
    lines: vt.Lines
    shot: vt.Shot
    shot_sizing: Sizing
    shot_room: Callable[[int], int]
    gap: str
    documents: type[Documents]
    sizing: Callable[[str, int, int], Sizing]


class RulerTask(NamedTuple):
    """A task at one length.

    Attributes:
      maker: makes samples of any size.
      sizing: fits them to the room.
      room: tokens of prompt and answer.
      settings: what the samples are made of, for manifests.
      answer_pattern: regular expression of strings that look like an answer; None: there is none.

    """

    maker: SampleMaker
    sizing: Sizing
    room: Room
    settings: Record
    answer_pattern: str | None


def make_task(version: Version, task: str, length: int, seed: int, inputs: RulerInputs) -> RulerTask:
    """Return a task of BASES at one length, in tokens. Raises ValueError for files of the user."""
    prompt = version.prompt(inputs.named_prompts[0][BASES[task]])
    maker, settings, pattern = BUILDERS[BASES[task]](version, task, length, seed, inputs, prompt)
    room = Room(inputs.counter, length, prompt.max_new_tokens, int(inputs.ctx.tokenizer.bos_id >= 0))
    return RulerTask(maker, version.sizing(task, length, prompt.max_new_tokens), room, settings, pattern)


Built = tuple[SampleMaker, Record, str | None]  # maker, settings, answer pattern


def niah(version: Version, task: str, length: int, seed: int, inputs: RulerInputs, prompt: RulerPrompt) -> Built:
    """Build a task with needles."""
    shape = NIAH[task]
    kinds = {"numbers": NUMBERS, "uuids": UUIDS}
    words = ValueKind("words", RandomPair(inputs.words.adjectives, inputs.words.nouns), "[a-z]+-[a-z]+")
    key, value = kinds.get(shape.key, words), kinds[shape.value]
    settings = {"words": inputs.words.name} if shape.key == "words" else {}
    if shape.hay == ESSAY:
        essays, metadata = inputs.haystack
        hay, settings = InEssays(essays, version.join), settings | metadata
    else:
        hay = InLines(haystacks.noise if shape.hay == NOISE else DistractorNeedle(key, value))
    return (
        NeedlesInHay(prompt, hay, key, value, version.order, shape.keys, shape.values, shape.queries),
        settings,
        value.pattern,
    )


def variable_tracking(
    version: Version, task: str, length: int, seed: int, inputs: RulerInputs, prompt: RulerPrompt
) -> Built:
    """Build vt, whose example is sized first."""
    room = Room(inputs.counter, version.shot_room(length), 0, 0)
    sizes = version.shot_sizing(vt.SolvedExample(prompt, version.shot), room, [SampleSeed(seed, task, 0)])
    fit = next(iter(sizes))
    return vt.Chains(prompt, version.lines, version.shot, fit.size if fit else 0), {}, "[A-Z]{5}"


def common_words(
    version: Version, task: str, length: int, seed: int, inputs: RulerInputs, prompt: RulerPrompt
) -> Built:
    """Build cwe."""
    if length < SHORT:
        counts, shot_counts, size = WordCounts(6, 1), WordCounts(3, 1), 20
    else:
        counts, shot_counts, size = WordCounts(30, 3), WordCounts(10, 3), 40
    words, name = inputs.list_words(length // (3 * counts.other))  # "12. word" has three tokens or more
    maker = CommonWords(prompt, words, counts, shot_counts, size, version.order, version.gap)
    return maker, {"words": name}, NUMBERED


def frequent_words(
    version: Version, task: str, length: int, seed: int, inputs: RulerInputs, prompt: RulerPrompt
) -> Built:
    """Build fwe."""
    return FrequentWords(prompt, max(6, length // 50), version.order), {}, "[a-z]{6}"


def question_answering(
    version: Version, task: str, length: int, seed: int, inputs: RulerInputs, prompt: RulerPrompt
) -> Built:
    """Build qa_1 or qa_2."""
    data = inputs.qa_dataset(task)
    maker = version.documents(prompt, data.texts, data.questions, version.order)
    return maker, {"documents_sha256": data.sha256}, None


BUILDERS: dict[str, Callable[[Version, str, int, int, RulerInputs, RulerPrompt], Built]] = {
    "niah": niah,
    "variable_tracking": variable_tracking,
    "common_words_extraction": common_words,
    "freq_words_extraction": frequent_words,
    "qa": question_answering,
}


def exact_sizing(task: str, length: int, new: int) -> Sizing:
    """Return our algorithm, for all tasks."""
    return Exact()


def size_step(task: str, length: int) -> int:
    """Return the step of RULER's sizes."""
    if task in NIAH:
        return 500 if NIAH[task].hay == ESSAY else 25 if length >= SHORT else 5
    return 10


def main_sizing(task: str, length: int, new: int) -> Sizing:
    """Return the algorithm of RULER's main branch."""
    if task == "fwe":
        return Linear((length - new) // 6, max(1, (length - new) // 32), reserve=new, answers=False)
    return Bisect(size_step(task, length))


def sizing_of_2024(task: str, length: int, new: int) -> Sizing:
    """Return the algorithm of RULER of 2024."""
    if task == "fwe":
        return Linear(length // 6, max(1, length // 32), reserve=0, answers=False)
    return Linear(size_step(task, length), size_step(task, length), reserve=new)


def always_500(length: int) -> int:
    """Return 500 tokens, as in RULER."""
    return 500


def at_most_a_quarter(length: int) -> int:
    """Return 500 tokens, or a quarter of the length if that is less."""
    return min(500, length // 4)


VERSIONS = {
    "exact": Version(
        "exact", corrected, SampleSeed.own_order, haystacks.join_nonempty, vt.join_lines,
        vt.ExamplePerSample(vt.join_lines), Exact(), at_most_a_quarter, " ", WordsOfDocuments, exact_sizing,
    ),
    "main": Version(
        "main", corrected, SampleSeed.shared_order, haystacks.join_all, vt.join_lines,
        vt.ExamplePerSample(vt.join_lines), Bisect(5), always_500, " ", RepeatedDocuments, main_sizing,
    ),
    "2024": Version(
        "2024", unchanged, SampleSeed.shared_order, haystacks.join_all, vt.join_as_in_2024,
        vt.SharedExample(vt.join_as_in_2024), Linear(5, 5, 30, answers=False), always_500, "", Documents,
        sizing_of_2024,
    ),
}  # fmt: skip
