"""LongBench (Bai et al. 2023, arXiv:2308.14508): a file for each task, in its schema, of synthetic text."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from longjax.evals.synthetic import chinese, code, prose, trec
from longjax.evals.synthetic.chinese import WORDS
from longjax.evals.synthetic.settings import Files, SyntheticConfig, to_jsonl

Example = dict[str, Any]  # context, input, answers, and all_classes where there are any
Make = Callable[[random.Random, int], Example]
PARAGRAPHS = 30  # of passage retrieval, as its prompt says
E = (
    "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec", "triviaqa", "samsum",
    "passage_count", "passage_retrieval_en", "lcc", "repobench-p",
)  # fmt: skip


def files(config: SyntheticConfig) -> Files:
    """Yield a file for each task, and one for each task of LongBench-E."""
    for task, make in TASKS.items():
        yield f"longbench/data/{task}.jsonl", _file(config, task, task, make, (1,))
    for task in E:  # of three lengths, for the scores by length
        yield f"longbench/data/{task}_e.jsonl", _file(config, f"{task}_e", task, TASKS[task], (1, 2, 3))


def _file(config: SyntheticConfig, name: str, task: str, make: Make, sizes: Sequence[int]) -> bytes:
    examples = (make(rng, config.words * sizes[i % len(sizes)]) for i, rng in enumerate(config.each("longbench", name)))
    return to_jsonl(_row(f"{name}-{i}", task, example) for i, example in enumerate(examples))


def _row(name: str, task: str, example: Example) -> Example:
    zh = task in CHINESE
    length = len(example["context"]) if zh else len(example["context"].split())
    return {
        "input": example["input"], "context": example["context"], "answers": example["answers"], "length": length,
        "dataset": task, "language": "zh" if zh else "en", "all_classes": example.get("all_classes"), "_id": name,
    }  # fmt: skip


def document(rng: random.Random, words: int) -> Example:
    """Return a document with a question about one of three facts."""
    facts = prose.facts(rng, 3)
    fact = rng.choice(facts)
    context = prose.prose_text(rng, words, [fact.statement for fact in facts])
    return {"context": context, "input": f"Who owns the {fact.thing}?", "answers": [fact.who, fact.who.split()[0]]}


def article(rng: random.Random, words: int) -> Example:
    """Return `document`; every third question has no answer."""
    if rng.randrange(3):
        return document(rng, words)
    return document(rng, words) | {"input": "Who owns the wooden moon?", "answers": ["unanswerable"]}


def passages(rng: random.Random, words: int) -> Example:
    """Return passages and a question for two: one states who owns a thing, the other what that person does."""
    facts = prose.facts(rng, 4)
    fact = facts[0]
    statements = [f"{fact.who} owns the {fact.thing}.", f"{fact.who} works as a {fact.trade} in {fact.town}."]
    statements += [fact.statement for fact in facts[1:]]
    rng.shuffle(statements)
    parts = [f"Passage {i}:\n{prose.passage(rng, words // 5, [x])}\n" for i, x in enumerate(statements, 1)]
    question = f"What is the trade of the person who owns the {fact.thing}?"
    return {"context": "\n".join(parts), "input": question, "answers": [fact.trade]}


def report(rng: random.Random, words: int) -> Example:
    """Return a report, whose summary is its facts."""
    statements = [fact.statement for fact in prose.facts(rng, 3)]
    return {"context": prose.prose_text(rng, words, statements), "input": "", "answers": [" ".join(statements)]}


def news(rng: random.Random, words: int) -> Example:
    """Return three reports and the summary of all."""
    parts = [report(rng, words // 3) for _ in range(3)]
    context = "\n\n".join(f"Passage {i}:\n{part['context']}" for i, part in enumerate(parts, 1))
    return {"context": context, "input": "", "answers": [" ".join(part["answers"][0] for part in parts)]}


def meeting(rng: random.Random, words: int) -> Example:
    """Return a transcript with a question about one fact."""
    facts = prose.facts(rng, 3)
    statements = prose.filler_sentences(rng, words, [fact.statement for fact in facts])
    context = "\n".join(f"{rng.choice(facts).who}: {x}" for x in statements)
    return {"context": context, "input": f"What was said about {facts[0].who}?", "answers": [facts[0].statement]}


def qa_pairs(rng: random.Random, words: int) -> Example:
    """Return a classification of TREC with examples."""
    kinds = rng.choices(trec.KINDS, k=max(4, words // 12))
    context = "\n".join(f"Question: {trec.trec_question(rng, kind)}\nType: {kind.name}" for kind in kinds)
    kind = rng.choice(kinds)
    names = [kind.name for kind in trec.KINDS]
    question = f"Question: {trec.trec_question(rng, kind)}\nType:"
    return {"context": context, "input": question, "answers": [kind.name], "all_classes": names}


def trivia(rng: random.Random, words: int) -> Example:
    """Return a question after two that are answered."""
    *shots, last = (document(rng, words // 3) for _ in range(3))
    form = "Passage:\n{context}\nQuestion:\n{input}\nAnswer:\n"
    context = "\n\n".join(form.format(**shot) + shot["answers"][0] for shot in shots)
    return {"context": context, "input": form.format(**last), "answers": last["answers"]}


def dialogues(rng: random.Random, words: int) -> Example:
    """Return a dialogue to sum up, after others with their summaries."""
    shots = [_dialogue(rng) for _ in range(max(2, words // 40))]
    context = "\n".join(f"Dialogue: {talk}\nSummary: {summary}" for talk, summary in shots)
    talk, summary = _dialogue(rng)
    return {"context": context, "input": f"Dialogue: {talk}\nSummary: ", "answers": [summary]}


def _dialogue(rng: random.Random) -> tuple[str, str]:
    fact, other = prose.facts(rng, 2)
    a, b = fact.who.split()[0], other.who.split()[0]
    talk = f"{a}: Did you see the {fact.thing}?\n{b}: Yes, it is in {fact.town} now.\n{a}: Then I will fetch it."
    return talk, f"{a} will fetch the {fact.thing} from {fact.town}."


def passage_count(rng: random.Random, words: int) -> Example:
    """Return paragraphs, some of which are repeated; the answer is the number of different ones."""
    different = rng.randint(2, 6)
    texts = [prose.passage(rng, words // 8, [fact.statement]) for fact in prose.facts(rng, different)]
    texts += rng.choices(texts, k=8 - different)
    rng.shuffle(texts)
    context = "\n\n".join(f"Paragraph {i}: {x}" for i, x in enumerate(texts, 1))
    return {"context": context, "input": "", "answers": [str(different)]}


def passage_retrieval(rng: random.Random, words: int) -> Example:
    """Return paragraphs and the summary of one of them."""
    facts = prose.facts(rng, PARAGRAPHS)
    texts = [prose.passage(rng, words // PARAGRAPHS, [fact.statement]) for fact in facts]
    context = "\n\n".join(f"Paragraph {i}: {x}" for i, x in enumerate(texts, 1))
    target = rng.randrange(PARAGRAPHS)
    fact = facts[target]
    abstract = f"It tells of {fact.who}, who lives in {fact.town} and owns the {fact.thing}."
    return {"context": context, "input": abstract, "answers": [f"Paragraph {target + 1}"]}


def document_zh(rng: random.Random, characters: int) -> Example:
    """Return `document` in Chinese."""
    facts = chinese.facts(rng, 3)
    fact = rng.choice(facts)
    context = chinese.chinese_text(rng, characters, [fact.form("said") for fact in facts])
    return {"context": context, "input": fact.form("whose"), "answers": [fact.who]}


def passages_zh(rng: random.Random, characters: int) -> Example:
    """Return passages in Chinese and a question about the first."""
    facts = chinese.facts(rng, 3)
    texts = (chinese.chinese_text(rng, characters // 3, [fact.form("said")]) for fact in facts)
    parts = [WORDS["passage"].format(i=i, title=facts[i - 1].thing, text=text) for i, text in enumerate(texts, 1)]
    return {"context": "".join(parts), "input": facts[0].form("trade"), "answers": [facts[0].trade]}


def meeting_zh(rng: random.Random, characters: int) -> Example:
    """Return a transcript in Chinese, whose summary is its facts."""
    facts = chinese.facts(rng, 3)
    statements = [chinese.chinese_text(rng, characters // 3, [fact.form("said")]) for fact in facts]
    context = "".join(WORDS["speaker"].format(who=fact.who, said=x) for fact, x in zip(facts, statements, strict=True))
    summary = WORDS["summary"].format(said="".join(fact.form("said") for fact in facts))
    return {"context": context, "input": "", "answers": [summary]}


def news_zh(rng: random.Random, characters: int) -> Example:
    """Return a classification of news in Chinese with examples."""
    about = WORDS["news_about"]
    labels = rng.choices([*about], k=max(3, characters // 40))
    shots = [WORDS["news_shot"].format(text=chinese.fill_form(rng, about[x]), label=x) for x in labels]
    kind = rng.choice(labels)
    question = WORDS["news"].format(text=chinese.fill_form(rng, about[kind]))
    return {"context": "".join(shots), "input": question, "answers": [kind], "all_classes": [*about]}


def passage_retrieval_zh(rng: random.Random, characters: int) -> Example:
    """Return `passage_retrieval` in Chinese."""
    facts = chinese.facts(rng, PARAGRAPHS)
    texts = (chinese.chinese_text(rng, characters // PARAGRAPHS, [fact.form("said")]) for fact in facts)
    context = "".join(WORDS["paragraph"].format(i=i, text=x) for i, x in enumerate(texts, 1))
    target = rng.randrange(PARAGRAPHS)
    answer = WORDS["paragraph_answer"].format(i=target + 1)
    return {"context": context, "input": facts[target].form("said"), "answers": [answer]}


CHINESE: dict[str, Make] = {
    "multifieldqa_zh": document_zh, "dureader": passages_zh, "vcsum": meeting_zh, "lsht": news_zh,
    "passage_retrieval_zh": passage_retrieval_zh,
}  # fmt: skip
TASKS: dict[str, Make] = {
    "narrativeqa": document, "qasper": article, "multifieldqa_en": document, "hotpotqa": passages,
    "2wikimqa": passages, "musique": passages, "gov_report": report, "qmsum": meeting, "multi_news": news,
    "trec": qa_pairs, "triviaqa": trivia, "samsum": dialogues, "passage_count": passage_count,
    "passage_retrieval_en": passage_retrieval, "lcc": code.one_file, "repobench-p": code.repository, **CHINESE,
}  # fmt: skip
