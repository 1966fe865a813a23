"""Reconstructs the essays, words and documents of RULER's samples, and writes them as a data folder."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golden_checks.eval_ruler_facts import FOUND, ITEM, documents, items, without_needles
from longjax.evals import wordlists
from longjax.evals.ruler.haystacks import NOISE
from longjax.evals.ruler.versions import BASES, ESSAY, NIAH

Row = dict[str, Any]
MARK = "\n<end of the context>"


def write(folder: Path, rows: Sequence[Row]) -> None:
    files = {
        "PaulGrahamEssays": essays(rows), "words": lists(rows), "squad": squad(rows), "hotpotqa": hotpotqa(rows),
    }  # fmt: skip
    (folder / "ruler").mkdir(parents=True)
    for name, content in files.items():
        (folder / "ruler" / f"{name}.json").write_text(json.dumps(content))


def compact(row: Row) -> Row:
    """Return the row with its context alone, without RULER's prompts, which we may not distribute."""
    theirs = ("header", "question", "tail", "icl_example") if not row["task"].startswith("qa") else ()
    fields = {name: x for name, x in row.items() if name not in ("input", "answer_prefix", "version")}
    prefix = {"answer_prefix": ""} if "answer_prefix" in row else {}
    return fields | prefix | {"analysis": {name: x for name, x in row["analysis"].items() if name not in theirs}}


def bare_prompts(folder: Path) -> Path:
    """Write prompts of the context alone, and return their folder."""
    asks = {"niah": "{query}", "variable_tracking": "{query}", "qa": "{query}"}
    entries = {
        base: {"template": "{context}" + MARK + asks.get(base, ""), "answer_prefix": "", "tokens_to_generate": 1}
        for base in dict.fromkeys(BASES.values())
    }
    folder.mkdir(parents=True)
    (folder / "ruler.json").write_text(json.dumps({"base_tasks": entries}))
    return folder


def essays(rows: Sequence[Row]) -> Row:
    hay = [without_needles(row["context"]) for row in rows if row["task"] in NIAH and NIAH[row["task"]].hay == ESSAY]
    return {"text": " ".join(max(hay, key=len, default=["None."]))}


def lists(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return nouns and adjectives of keys, and all words of lists."""
    default = wordlists.read_words(Path("none"))
    keys = {key for row in rows if row["task"] in NIAH for _, key, _ in FOUND.findall(row["context"])}
    pairs = [key.split("-", 1) for key in keys if re.fullmatch("[a-z]+-.*[a-z].*", key)]
    words_of_lists = {word for row in rows if row["task"] == "cwe" for word in items(row["context"].split("\n")[-1])}
    return {
        "nouns": sorted({noun for _, noun in pairs} or set(default.nouns)),
        "adjectives": sorted({adjective for adjective, _ in pairs} or set(default.adjectives)),
        "verbs": sorted(words_of_lists or set(default.verbs)),
    }


def squad(rows: Sequence[Row]) -> Row:
    """Return SQuAD with each document as an article; a question is on the first document with its answer."""
    rows = [row for row in rows if row["task"] == "qa_1"]
    texts = list(dict.fromkeys(text for row in rows for text in documents(row["context"]))) or ["None."]
    questions: dict[str, list[Row]] = {text: [] for text in texts}
    for row in rows or [{"outputs": ["None"], "analysis": {"question": "?"}}]:
        text = next((text for text in texts if row["outputs"][0] in text), texts[0])
        answers = [{"text": output} for output in row["outputs"]]
        questions[text].append({"id": "", "question": row["analysis"]["question"], "answers": answers})
    return {"data": [{"paragraphs": [{"context": text, "qas": qas}]} for text, qas in questions.items()]}


def hotpotqa(rows: Sequence[Row]) -> list[Row]:
    """Return HotpotQA with ten documents a question: those with its answer, and the first of its context."""
    rows = [row for row in rows if row["task"] == "qa_2"]
    every = [text for row in rows for text in documents(row["context"])]
    examples = []
    for row in rows:
        texts_of_row = documents(row["context"])
        chosen = list(dict.fromkeys([*(x for x in texts_of_row if row["outputs"][0] in x), *texts_of_row]))[:10]
        examples.append(
            {"question": row["analysis"]["question"], "answer": row["outputs"][0], "context": titled(chosen)}
        )
    rest = list(dict.fromkeys(every))
    examples += [{"question": "", "answer": "", "context": titled(rest[i : i + 10])} for i in range(0, len(rest), 10)]
    return examples or [{"question": "?", "answer": "None", "context": titled(["None\nNone."])}]


def titled(texts: Sequence[str]) -> list[tuple[str, list[str]]]:
    return [(text.partition("\n")[0], [text.partition("\n")[2]]) for text in texts]


def around(text: str, task: str) -> str:
    """Return the text with random parts made equal; of vt also its sorted characters, as lines move."""
    if task in NIAH:
        text = FOUND.sub("", text)
        return re.sub(r"for .+?(?= mentioned)", "for", text[:200].partition("\n")[0] + text[text.rindex("\n") :])
    if task == "vt":
        text = re.sub(r"\b\d{5}\b", "9", re.sub(r"\b[A-Z]{3}\b(?<!VAR)", "X", re.sub(r"\b[A-Z]{5}\b", "Y", text)))
        return re.sub(r"\s*(\bVAR . = (VAR .|9))\s*|\s*" + re.escape(NOISE), "", text) + "".join(sorted(text))
    if task == "cwe":
        return re.sub(r"\d+\. w ?", "", ITEM.sub(r"\1. w", text)) + str(len(ITEM.findall(text.rpartition("\n1.")[0])))
    if task == "fwe":
        return re.sub(r"(?:(?:[a-z]{6}|\.\.\.) ){10,}", "", text)[:60]
    return text[: text.index("Document 1")] + re.sub(
        r"(?<=Question: ).*", "", text[text.rindex("\n\n", 0, text.rindex("\n\nQ")) :]
    )
