"""RULER's two question sets in their own schemas: SQuAD v2 (arXiv:1806.03822) and HotpotQA (arXiv:1809.09600)."""

import random
from typing import Any

from longjax.evals.synthetic import prose
from longjax.evals.synthetic.settings import Files, SyntheticConfig, to_json

ARTICLES, PARAGRAPHS = 24, 4  # at least; of an article
DISTRACTORS = 8  # documents besides the two that answer a question


def files(config: SyntheticConfig) -> Files:
    """Yield ruler/squad.json and ruler/hotpotqa.json."""
    words = max(12, config.words // 6)
    count = max(ARTICLES, config.examples // PARAGRAPHS)
    articles = [_article(config.rng("squad", i), i, words) for i in range(count)]
    yield "ruler/squad.json", to_json({"version": "made", "data": articles})
    yield "ruler/hotpotqa.json", to_json([_hops(config.rng("hotpotqa", i), i, words) for i in range(4 * count)])


def _article(rng: random.Random, number: int, words: int) -> dict[str, Any]:
    facts = prose.facts(rng, PARAGRAPHS)
    paragraphs = [_paragraph(rng, f"{number}-{i}", words, fact) for i, fact in enumerate(facts)]
    return {"title": f"{rng.choice(prose.TOWNS)}_{number}", "paragraphs": paragraphs}


def _paragraph(rng: random.Random, name: str, words: int, fact: prose.Fact) -> dict[str, Any]:
    context = prose.passage(rng, words, [fact.statement])
    answer = {"text": fact.who, "answer_start": context.index(fact.who)}
    answerable = {"question": f"Who owns the {fact.thing}?", "id": f"made-{name}", "answers": [answer]}
    unanswerable = {"question": "Who owns the wooden moon?", "id": f"made-{name}-none", "answers": []}
    qas = [answerable | {"is_impossible": False}, unanswerable | {"is_impossible": True}]
    return {"context": context, "qas": qas}


def _hops(rng: random.Random, number: int, words: int) -> dict[str, Any]:
    """-> a question for two documents: one states who owns a thing, the other where that person lives."""
    fact, *others = prose.facts(rng, 1 + DISTRACTORS)
    owns, lives = f"{fact.who} owns the {fact.thing}.", f"{fact.who} is a {fact.trade} and lives in {fact.town}."
    context = [
        [fact.thing, prose.filler_sentences(rng, words, [owns])],
        [fact.who, prose.filler_sentences(rng, words, [lives])],
    ]
    context += [[other.who, prose.filler_sentences(rng, words, [other.statement])] for other in others]
    facts = [[title, text.index(sentence)] for (title, text), sentence in zip(context, (owns, lives), strict=False)]
    context = [[title, [text[0], *(f" {x}" for x in text[1:])]] for title, text in context]  # as in the original
    rng.shuffle(context)
    return {
        "_id": f"made-{number}", "question": f"In which town lives the owner of the {fact.thing}?", "answer": fact.town,
        "type": "bridge", "level": "easy", "supporting_facts": facts, "context": context,
    }  # fmt: skip
