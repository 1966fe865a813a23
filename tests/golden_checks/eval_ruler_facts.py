"""Facts about a sample of RULER, read from its context alone, for samples of any origin."""

import collections
import re
from collections.abc import Callable, Sequence
from typing import Any

from longjax.evals.ruler import vt
from longjax.evals.ruler.haystacks import DEPTHS, NOISE, Essays
from longjax.evals.ruler.niah import NEEDLE
from longjax.evals.ruler.versions import BASES, ESSAY, NIAH

Facts = dict[str, Any]
TOKEN = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9\s]")  # of the goldens' stand-in for a tokenizer
FOUND = re.compile(r"One of the special magic (\w+) for (.+?) is: ([0-9a-f-]+)\.")
ITEM = re.compile(r"(\d+)\. (\D+?)(?= \d+\. |\n|$)")
ASSIGNED = re.compile(r"VAR ([A-Z]+) = (VAR [A-Z]+|\d+)( ?)")
HEADER = re.compile(r"(?:^|\n\n)Document (\d+):\n")


def tokens(text: str) -> list[str]:
    return TOKEN.findall(text)


def without_needles(context: str) -> list[str]:
    """Return the words of the haystack."""
    return FOUND.sub(" ", context).split()


def items(text: str) -> list[str]:
    """Return the words of a numbered list. Raises ValueError if a number is out of order."""
    found = ITEM.findall(text)
    if [int(number) for number, _ in found] != list(range(1, len(found) + 1)):
        raise ValueError("the numbers of the list are not 1, 2, 3 ...")
    return [word for _, word in found]


def documents(context: str) -> list[str]:
    """Return the texts of documents. Raises ValueError if a number is out of order."""
    start, *parts = HEADER.split(context)
    if start or [int(x) for x in parts[::2]] != list(range(1, len(parts) // 2 + 1)):
        raise ValueError("the documents are not numbered 1, 2, 3 ...")
    return parts[1::2]


def of_needles(task: str, context: str, outputs: Sequence[str]) -> Facts:
    """Return counts and kinds of needles, and whether their positions follow the rules.

    The golden row's analysis does not count keys with a space: `plain` needles are those that it counts.
    """
    found = FOUND.findall(context)
    shape = NIAH[task]
    values = [value for _, _, value in found]
    facts = {
        "needles": len(found), "kinds": sorted({kind for kind, _, _ in found}),
        "keys": len({key for _, key, _ in found}) if shape.hay == ESSAY else None,
        "plain": sum(" " not in key for _, key, _ in found),
        "plain_keys": len({key for _, key, _ in found if " " not in key}),
        "answers": [values.count(output) for output in outputs],
        "sentence": all(NEEDLE.format(kind=kind, key=key, value=value) in context for kind, key, value in found),
    }  # fmt: skip
    if shape.hay == ESSAY:
        return facts | {"words": len(without_needles(context)), "depths": on_grid(context)}
    lines = context.split("\n")
    other = [line for line in lines if not FOUND.fullmatch(line)]
    return facts | {"lines": len(lines), "hay": sorted(set(other)), "needles_alone": len(lines) - len(other)}


def on_grid(context: str) -> bool:
    """Whether every needle is at a depth of the grid: after that share of the sentences."""
    sentences = Essays(without_needles(context)).sentences[0]
    places = {len(sentences) * depth // 100 for depth in DEPTHS}
    before = [len(context[: m.start()].split()) for m in FOUND.finditer(context)]
    sizes = [len(m[0].split()) for m in FOUND.finditer(context)]
    ends = [0]
    for sentence in sentences:
        ends.append(ends[-1] + len(sentence.split()))
    words = [b - sum(sizes[:i]) for i, b in enumerate(before)]
    return all(word in ends and ends.index(word) in places for word in words)


def of_chain(task: str, context: str, outputs: Sequence[str]) -> Facts:
    """Return facts about the chain of variables and the way that lines are joined."""
    found = ASSIGNED.findall(context)
    names, values = [name for name, _, _ in found], [value for _, value, _ in found]
    lines = [m[0] for m in re.finditer(f"{re.escape(NOISE)}|{ASSIGNED.pattern}", context)]
    return {
        "names": names == list(outputs) and all(re.fullmatch(f"[A-Z]{{{vt.LETTERS}}}", name) for name in names),
        "chain": values[1:] == [f"VAR {name}" for name in names[:-1]] and values[0].isdigit() and len(values[0]) == 5,
        "noise": lines.count(NOISE),
        "spaced": vt.join_as_in_2024(strip(lines)) == context, "one_a_line": vt.join_lines(strip(lines)) == context,
    }  # fmt: skip


def strip(lines: Sequence[str]) -> list[str]:
    """Return lines as they are made: all but the first assignment end with a space."""
    first = next(i for i, line in enumerate(lines) if line != NOISE)
    return [line.rstrip(" ") if i == first else line for i, line in enumerate(lines)]


def of_list(task: str, context: str, outputs: Sequence[str]) -> Facts:
    """Return facts about the last list: word counts, and whether the answers are the most frequent words."""
    words = collections.Counter(items(context.split("\n")[-1]))
    histogram = dict(collections.Counter(words.values()))
    top = {word for word, _ in words.most_common(len(outputs))}
    return {"histogram": histogram, "top": top == set(outputs), "items": words.total()}


def of_codes(task: str, context: str, outputs: Sequence[str]) -> Facts:
    words = collections.Counter(context.split(" "))
    ranked = words.most_common(4)
    return {
        "counts": sorted(words.values()),
        "n_words": words.total(), "n_distinct": len(words), "dots": ranked[0][0] == "...",
        "top": [word for word, _ in ranked[1:]] == list(outputs),
        "letters": all(re.fullmatch("[a-z]{6}", word) for word in words if word != "..."),
    }  # fmt: skip


def of_documents(task: str, context: str, outputs: Sequence[str]) -> Facts:
    texts = documents(context)
    return {
        "documents": len(texts),
        "distinct": len(set(texts)),
        "answered": any(output in context for output in outputs),
    }


READERS: dict[str, Callable[[str, str, Sequence[str]], Facts]] = {
    "niah": of_needles, "variable_tracking": of_chain, "common_words_extraction": of_list,
    "freq_words_extraction": of_codes, "qa": of_documents,
}  # fmt: skip


def facts(task: str, context: str, outputs: Sequence[str]) -> Facts:
    return READERS[BASES[task]](task, context, outputs)


def claimed(task: str, analysis: Facts, context: str) -> Facts:
    """Return the facts of a golden row's own analysis, as far as facts() has them, too."""
    if task in NIAH:
        shape = NIAH[task]
        wanted = (shape.keys, shape.values, shape.queries)
        actual = tuple(analysis[f"num_needle_{x}"] for x in "kvq")
        if actual != wanted or analysis["type_needle_k"] != shape.key or analysis["type_needle_v"] != shape.value:
            raise ValueError(f"the task has {wanted} needles, not {actual}")
        for needle in analysis["answer_needles"]:
            actual = NEEDLE.format(kind=shape.value, key=needle["key"], value=needle["value"])
            if abs(context.find(actual) / len(context) - needle["depth"]) > 1e-6:
                raise ValueError(f"{actual} is not at {needle['depth']}")
        lines = {} if shape.hay == ESSAY else {"lines": analysis["n_context_lines"]}
        return {"plain": analysis["n_needle_sentences"], "plain_keys": analysis["distinct_keys"]} | lines
    if task == "vt":
        return {"noise": analysis["noise_sentences"]}
    if task == "cwe":
        main = analysis["main"]
        return {"histogram": {int(k): n for k, n in main["count_histogram"].items()}, "items": main["n_items"]}
    if task == "fwe":
        return {"n_words": analysis["n_words"], "n_distinct": analysis["n_distinct"]}
    return {"documents": analysis["n_documents"], "answered": analysis["answer_in_context"]}
