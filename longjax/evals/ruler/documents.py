"""SQuAD 2.0 and HotpotQA as they are published, read into documents and questions."""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from longjax.evals.requests import Record
from longjax.evals.ruler.qa import QaQuestion
from longjax.files import sha256_bytes


class Library(NamedTuple):
    """Documents in the order of their texts, what is asked of them, and the hash of the file."""

    texts: list[str]
    asked: list[QaQuestion]
    sha256: str


def read_library(path: pathlib.Path, reader: Callable[[Any], tuple[list[str], list[QaQuestion]]]) -> Library:
    """Raises ValueError that names the file if it is torn or of another schema."""
    data = path.read_bytes()
    try:
        texts, asked = reader(json.loads(data))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is torn or not as published ({why}): get it again") from error
    if not asked:
        raise ValueError(f"{path} has no question that can be answered: get it again")
    return Library(texts, asked, sha256_bytes(data))


def squad(data: Any) -> tuple[list[str], list[QaQuestion]]:
    """Questions that have an answer, in the order of the file; paragraphs of the same article come first."""
    articles = [article["paragraphs"] for article in data["data"]]
    texts = sorted({paragraph["context"] for article in articles for paragraph in article})
    number = {text: i for i, text in enumerate(texts)}
    asked = []
    for article in articles:
        for paragraph in article:
            mine = number[paragraph["context"]]
            near = list(dict.fromkeys(number[x["context"]] for x in article if number[x["context"]] != mine))
            asked += [qa_question(x, mine, near) for x in paragraph["qas"] if not x.get("is_impossible", False)]
    return texts, asked


def qa_question(x: Record, mine: int, near: list[int]) -> QaQuestion:
    return QaQuestion(str(x["id"]), x["question"], [answer["text"] for answer in x["answers"]], [mine], [mine], near)


def hotpotqa(data: Any) -> tuple[list[str], list[QaQuestion]]:
    """All questions with their ten paragraphs, of which those of the supporting facts are needed."""
    held = [[(title, f"{title}\n{''.join(lines)}") for title, lines in x["context"]] for x in data]
    texts = sorted({text for paragraphs in held for _, text in paragraphs})
    number = {text: i for i, text in enumerate(texts)}
    asked = []
    for x, paragraphs in zip(data, held, strict=True):
        facts = {title for title, _ in x.get("supporting_facts", [])} or {title for title, _ in paragraphs}
        own = list(dict.fromkeys(number[text] for _, text in paragraphs))
        needed = list(dict.fromkeys(number[text] for title, text in paragraphs if title in facts))
        asked.append(QaQuestion(str(x.get("_id", len(asked))), x["question"], [x["answer"]], needed or own, own, []))
    return texts, asked
