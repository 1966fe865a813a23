"""RULER's tasks in three versions: `2024`, as the study ran it; `main`, as it is now; `exact`, ours.

RULER 2024 is commit e40fae1 of github.com/hsiehjackson/RULER, main is c3f5e3b of NVIDIA/RULER.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from longjax.evals.prompts import RulerPrompt
from longjax.evals.requests import Record
from longjax.evals.ruler import haystacks, vt
from longjax.evals.ruler.cwe import Common, Often
from longjax.evals.ruler.fwe import Coded
from longjax.evals.ruler.haystacks import InEssays, InLines
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import Bisect, Exact, Linear, Room, Sizing
from longjax.evals.ruler.niah import NUMBERS, UUIDS, NeedlesInHay, OtherNeedle, Pairs, ValueKind
from longjax.evals.ruler.prompts import corrected, unchanged
from longjax.evals.ruler.qa import Documents, RepeatedDocuments, WordsOfDocuments
from longjax.evals.ruler.sample import Growing, Order, SampleSeed

NOISE, ESSAY, NEEDLE = "noise", "essay", "needle"
SHORT = 4096  # lists have fewer words, and steps are smaller, below
NUMBERED = r"(?<=[0-9]\. )[a-z-]+"  # words of a list


class NiahShape(NamedTuple):
    """Of a task with needles."""

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
    """What versions differ in.

    Attributes:
      name: of the version.
      prompt: a prompt of the file as this version says it.
      order: in which things are put.
      join: of pieces of an essay.
      lines, shot: of vt: how lines stand together, and the example.
      shot_sizing, shot_room: of that example; its tokens, of a length.
      gap: of cwe: before the example's answer.
      documents: how questions on documents grow.
      sizing: (task, length, new) -> how samples become as long as they are.

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
    """A task at a length: what grows, how it is sized, its room, what it was made of, and what its answers are like."""

    grow: Growing
    sizing: Sizing
    room: Room
    settings: Record
    like: str | None


def make(version: Version, task: str, length: int, seed: int, kit: RulerInputs) -> RulerTask:
    prompt = version.prompt(kit.named_prompts[0][BASES[task]])
    grow, settings, like = BUILDERS[BASES[task]](version, task, length, seed, kit, prompt)
    room = Room(kit.counter, length, prompt.new, int(kit.material.tokenizer.bos_id >= 0))
    return RulerTask(grow, version.sizing(task, length, prompt.new), room, settings, like)


Built = tuple[Growing, Record, str | None]


def niah(version: Version, task: str, length: int, seed: int, kit: RulerInputs, prompt: RulerPrompt) -> Built:
    shape = NIAH[task]
    kinds = {"numbers": NUMBERS, "uuids": UUIDS}
    words = ValueKind("words", Pairs(kit.words.adjectives, kit.words.nouns), "[a-z]+-[a-z]+")
    key, value = kinds.get(shape.key, words), kinds[shape.value]
    settings = {"words": kit.words.name} if shape.key == "words" else {}
    if shape.hay == ESSAY:
        essays, about = kit.haystack
        hay, settings = InEssays(essays, version.join), settings | about
    else:
        hay = InLines(haystacks.noise if shape.hay == NOISE else OtherNeedle(key, value))
    return (
        NeedlesInHay(prompt, hay, key, value, version.order, shape.keys, shape.values, shape.queries),
        settings,
        value.like,
    )


def variable_tracking(
    version: Version, task: str, length: int, seed: int, kit: RulerInputs, prompt: RulerPrompt
) -> Built:
    room = Room(kit.counter, version.shot_room(length), 0, 0)
    sizes = version.shot_sizing(vt.Example(prompt, version.shot), room, [SampleSeed(seed, task, 0)])
    fit = next(iter(sizes))
    return vt.Chains(prompt, version.lines, version.shot, fit.size if fit else 0), {}, "[A-Z]{5}"


def common_words(version: Version, task: str, length: int, seed: int, kit: RulerInputs, prompt: RulerPrompt) -> Built:
    short = length < SHORT
    often, shot_often, size = (Often(6, 1), Often(3, 1), 20) if short else (Often(30, 3), Often(10, 3), 40)
    words, name = kit.listed(length // (3 * often.other))  # "12. word" has three tokens or more
    return Common(prompt, words, often, shot_often, size, version.order, version.gap), {"words": name}, NUMBERED


def frequent_words(version: Version, task: str, length: int, seed: int, kit: RulerInputs, prompt: RulerPrompt) -> Built:
    return Coded(prompt, max(6, length // 50), version.order), {}, "[a-z]{6}"


def question_answering(
    version: Version, task: str, length: int, seed: int, kit: RulerInputs, prompt: RulerPrompt
) -> Built:
    held = kit.library(task)
    return version.documents(prompt, held.texts, held.asked, version.order), {"documents_sha256": held.sha256}, None


BUILDERS: dict[str, Callable[[Version, str, int, int, RulerInputs, RulerPrompt], Built]] = {
    "niah": niah,
    "variable_tracking": variable_tracking,
    "common_words_extraction": common_words,
    "freq_words_extraction": frequent_words,
    "qa": question_answering,
}


def exact_sizing(task: str, length: int, new: int) -> Sizing:
    return Exact()


def step(task: str, length: int) -> int:
    """-> by how much RULER's samples grow and shrink."""
    if task in NIAH:
        return 500 if NIAH[task].hay == ESSAY else 25 if length >= SHORT else 5
    return 10


def main_sizing(task: str, length: int, new: int) -> Sizing:
    if task == "fwe":
        return Linear((length - new) // 6, max(1, (length - new) // 32), reserve=new, answers=False)
    return Bisect(step(task, length))


def sizing_of_2024(task: str, length: int, new: int) -> Sizing:
    if task == "fwe":
        return Linear(length // 6, max(1, length // 32), reserve=0, answers=False)
    return Linear(step(task, length), step(task, length), reserve=new)


def always_500(length: int) -> int:
    return 500


def at_most_a_quarter(length: int) -> int:
    return min(500, length // 4)


VERSIONS = {
    "exact": Version(
        "exact", corrected, SampleSeed.own, haystacks.tidy, vt.one_a_line, vt.Varied(vt.one_a_line),
        Exact(), at_most_a_quarter, " ", WordsOfDocuments, exact_sizing,
    ),
    "main": Version(
        "main", corrected, SampleSeed.shared, haystacks.as_in_2024, vt.one_a_line, vt.Varied(vt.one_a_line),
        Bisect(5), always_500, " ", RepeatedDocuments, main_sizing,
    ),
    "2024": Version(
        "2024", unchanged, SampleSeed.shared, haystacks.as_in_2024, vt.spaced, vt.Garbled(vt.spaced),
        Linear(5, 5, 30, answers=False), always_500, "", Documents, sizing_of_2024,
    ),
}  # fmt: skip
