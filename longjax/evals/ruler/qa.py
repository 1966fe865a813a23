"""Question answering with distracting documents (RULER, arXiv:2404.06654): SQuAD 2.0 and HotpotQA."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from longjax.evals.prompts import RulerPrompt
from longjax.evals.ruler.sample import Order, RulerSample, SampleSeed

MAX_DISTRACTORS = 4096  # of a sample; more than fit into 128K tokens


class QaQuestion(NamedTuple):
    """A question on documents, which are indices into the texts of the data set.

    Attributes:
      id: in the data set.
      question: its text.
      answers: any of them is right.
      needed: documents that hold the answer.
      included: documents that RULER always includes: the needed ones, and for HotpotQA the ten of the question.
      near: the first distractors: other paragraphs of the same article.

    """

    id: str
    question: str
    answers: list[str]
    needed: list[int]
    included: list[int]
    near: list[int]


@dataclasses.dataclass(frozen=True, eq=False)
class Documents:
    """The task as in RULER; its size is the number of documents. Sample i has question i."""

    prompt: RulerPrompt
    texts: Sequence[str]
    questions: Sequence[QaQuestion]
    order: Order
    min_size: int = 1

    @property
    def max_size(self) -> int:
        """Number of documents."""
        return len(self.texts)

    @property
    def num_samples(self) -> int:
        """Number of questions."""
        return len(self.questions)

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        rng, question = sample_seed.rng(), self.questions[sample_seed.index]
        missing = max(0, n - len(question.included))
        near = question.near if missing >= len(question.near) else rng.sample(question.near, missing)
        chosen = [*question.included, *near]
        used = set(chosen)
        far = [i for i in range(len(self.texts)) if i not in used] if n > len(chosen) else []
        chosen += rng.sample(far, n - len(chosen)) if far else []
        return qa_sample(self, sample_seed, question, [self.texts[i] for i in chosen])


@dataclasses.dataclass(frozen=True, eq=False)
class RepeatedDocuments(Documents):
    """The task as in RULER's main branch, which repeats documents where there are too few."""

    @property
    def max_size(self) -> int:
        """No limit."""
        return 10**9

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        count = len(self.texts)
        if n <= count:
            return super().__call__(sample_seed, n)
        rest = sample_seed.rng().sample(range(count), n % count)
        chosen = [*range(count)] * (n // count) + rest
        return qa_sample(self, sample_seed, self.questions[sample_seed.index], [self.texts[i] for i in chosen])


@dataclasses.dataclass(frozen=True, eq=False)
class WordsOfDocuments(Documents):
    """The task in our version; its size is the number of words of distractors, the last of which is cut.

    Needed documents are included once; distractors are repeated where there are too few.
    """

    min_size: int = 0

    @property
    def max_size(self) -> int:
        """No limit, unless there are no distractors."""
        return 10**9 if len(self.texts) > max(len(question.needed) for question in self.questions) else 0

    def __call__(self, sample_seed: SampleSeed, n: int) -> RulerSample:
        rng, question = sample_seed.rng(), self.questions[sample_seed.index]
        needed = set(question.needed)
        near = [i for i in dict.fromkeys([*question.included, *question.near]) if i not in needed]
        rng.shuffle(near)
        others = rng.sample(range(len(self.texts)), min(len(self.texts), MAX_DISTRACTORS))
        more = [i for i in dict.fromkeys([*near, *others]) if i not in needed]
        return qa_sample(self, sample_seed, question, [self.texts[i] for i in question.needed] + self.cut(more, n))

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Number of words of each document."""
        return [text.count(" ") + 1 for text in self.texts]

    def cut(self, chosen: Sequence[int], n: int) -> list[str]:
        """Return texts of n words together."""
        parts = []
        for i in itertools.cycle(chosen):
            if n <= 0:
                break
            text, size = self.texts[i], self.sizes[i]
            parts.append(text if size <= n else " ".join(text.split(" ")[:n]))
            n -= size
        return parts


def qa_sample(task: Documents, sample_seed: SampleSeed, question: QaQuestion, texts: list[str]) -> RulerSample:
    """Return the sample of a question with these documents, which are put in order."""
    gold = {task.texts[i] for i in question.needed}
    task.order(sample_seed).shuffle(texts)
    context = "\n\n".join(f"Document {i}:\n{text}" for i, text in enumerate(texts, 1))
    text = task.prompt.template.format(context=context, query=question.question)
    depths = [round(i / len(texts), 4) for i, text in enumerate(texts) if text in gold]
    metadata = {"question_id": question.id, "documents": len(texts), "depths": depths}
    return RulerSample(text, task.prompt.answer_prefix.format(query=question.question), question.answers, metadata)
