"""Reads SQuAD 2.0 and HotpotQA, as they are published, into documents and questions."""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from longjax.evals.requests import Record
from longjax.evals.ruler.qa import QaQuestion
from longjax.files import read_text, sha256_file


class QaDataset(NamedTuple):
    """Documents in the order of their texts, the questions on them, and the SHA-256 of the file."""

    texts: list[str]
    questions: list[QaQuestion]
    sha256: str


def read_dataset(path: pathlib.Path, reader: Callable[[Any], tuple[list[str], list[QaQuestion]]]) -> QaDataset:
    """Read a file with one of the readers below. Raises ValueError if it is torn or of another schema."""
    try:
        texts, questions = reader(json.loads(read_text(path)))
    except (RecursionError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is torn or not as published ({why}): get it again") from error
    if not questions:
        raise ValueError(f"{path} has no question that can be answered: get it again")
    return QaDataset(texts, questions, sha256_file(path))


def squad(data: Any) -> tuple[list[str], list[QaQuestion]]:
    """Return texts and answerable questions of SQuAD 2.0; other paragraphs of an article are its first distractors."""
    articles = [article["paragraphs"] for article in data["data"]]
    texts = sorted({paragraph["context"] for article in articles for paragraph in article})
    number = {text: i for i, text in enumerate(texts)}
    questions = []
    for article in articles:
        for paragraph in article:
            document = number[paragraph["context"]]
            near = list(dict.fromkeys(number[x["context"]] for x in article if number[x["context"]] != document))
            questions += [
                squad_question(x, document, near) for x in paragraph["qas"] if not x.get("is_impossible", False)
            ]
    return texts, questions


def squad_question(x: Record, document: int, near: list[int]) -> QaQuestion:
    """Return a question of SQuAD on one document."""
    answers = [answer["text"] for answer in x["answers"]]
    return QaQuestion(str(x["id"]), x["question"], answers, [document], [document], near)


def hotpotqa(data: Any) -> tuple[list[str], list[QaQuestion]]:
    """Return texts and questions of HotpotQA, with ten paragraphs each; those of the supporting facts are needed."""
    contexts = [[(title, f"{title}\n{''.join(lines)}") for title, lines in x["context"]] for x in data]
    texts = sorted({text for paragraphs in contexts for _, text in paragraphs})
    number = {text: i for i, text in enumerate(texts)}
    questions = []
    for x, paragraphs in zip(data, contexts, strict=True):
        facts = {title for title, _ in x.get("supporting_facts", [])} or {title for title, _ in paragraphs}
        included = list(dict.fromkeys(number[text] for _, text in paragraphs))
        needed = list(dict.fromkeys(number[text] for title, text in paragraphs if title in facts))
        name = str(x.get("_id", len(questions)))
        questions.append(QaQuestion(name, x["question"], [x["answer"]], needed or included, included, []))
    return texts, questions
