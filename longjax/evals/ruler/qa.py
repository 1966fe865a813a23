"""Questions on documents, among others that do not help (RULER, arXiv:2404.06654): SQuAD 2.0 and HotpotQA."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.sample import Order, RulerSample, SampleSeed

TRIED = 4096  # distractors that a sample may have: more than 128K tokens hold


class QaQuestion(NamedTuple):
    """A question; documents are numbers.

    Attributes:
      id: of the data set.
      question: as it is.
      answers: any of them is right.
      needed: documents that hold the answer.
      own: those that RULER takes always: needed ones, and of HotpotQA the ten of the question.
      near: distractors that come first: of the same article.

    """

    id: str
    question: str
    answers: list[str]
    needed: list[int]
    own: list[int]
    near: list[int]


@dataclasses.dataclass(frozen=True, eq=False)
class Documents:
    """Grows by documents, as RULER does. Sample i has question i."""

    prompt: RulerPrompt
    texts: Sequence[str]
    asked: Sequence[QaQuestion]
    order: Order
    least: int = 1

    @property
    def most(self) -> int:
        return len(self.texts)

    @property
    def samples(self) -> int:
        return len(self.asked)

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        rng, one = chance.rng(), self.asked[chance.index]
        near = one.near if n - len(one.own) >= len(one.near) else rng.sample(one.near, max(0, n - len(one.own)))
        chosen = [*one.own, *near]
        held = set(chosen)
        far = [i for i in range(len(self.texts)) if i not in held] if n > len(chosen) else []
        chosen += rng.sample(far, n - len(chosen)) if far else []
        return written(self, chance, one, [self.texts[i] for i in chosen])


@dataclasses.dataclass(frozen=True, eq=False)
class RepeatedDocuments(Documents):
    """As in main: where there are too few documents, they come again."""

    @property
    def most(self) -> int:
        return 10**9

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        count = len(self.texts)
        if n <= count:
            return super().__call__(chance, n)
        again = chance.rng().sample(range(count), n % count)
        chosen = [*range(count)] * (n // count) + again
        return written(self, chance, self.asked[chance.index], [self.texts[i] for i in chosen])


@dataclasses.dataclass(frozen=True, eq=False)
class WordsOfDocuments(Documents):
    """Grows by words of distractors, the last of which is cut; documents that are not needed make way.

    Those that are needed are there once; distractors come again where there are too few.
    """

    least: int = 0

    @property
    def most(self) -> int:
        return 10**9 if len(self.texts) > max(len(one.needed) for one in self.asked) else 0

    def __call__(self, chance: SampleSeed, n: int) -> RulerSample:
        rng, one = chance.rng(), self.asked[chance.index]
        needed = set(one.needed)
        near = [i for i in dict.fromkeys([*one.own, *one.near]) if i not in needed]
        rng.shuffle(near)
        others = rng.sample(range(len(self.texts)), min(len(self.texts), TRIED))
        more = [i for i in dict.fromkeys([*near, *others]) if i not in needed]
        return written(self, chance, one, [self.texts[i] for i in one.needed] + self.cut(more, n))

    @functools.cached_property
    def sizes(self) -> list[int]:
        return [text.count(" ") + 1 for text in self.texts]

    def cut(self, chosen: Sequence[int], n: int) -> list[str]:
        """-> texts of n words together."""
        parts = []
        for i in itertools.cycle(chosen):
            if n <= 0:
                break
            text, size = self.texts[i], self.sizes[i]
            parts.append(text if size <= n else " ".join(text.split(" ")[:n]))
            n -= size
        return parts


def written(task: Documents, chance: SampleSeed, one: QaQuestion, texts: list[str]) -> RulerSample:
    gold = {task.texts[i] for i in one.needed}
    task.order(chance).shuffle(texts)
    context = "\n\n".join(f"Document {i}:\n{text}" for i, text in enumerate(texts, 1))
    text = task.prompt.template.format(context=context, query=one.question)
    depths = [round(i / len(texts), 4) for i, text in enumerate(texts) if text in gold]
    about = {"question_id": one.id, "documents": len(texts), "depths": depths}
    return RulerSample(text, task.prompt.answer_prefix.format(query=one.question), one.answers, about)
