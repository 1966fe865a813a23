"""RULER's two question sets in their own schemas: SQuAD v2 (arXiv:1806.03822) and HotpotQA (arXiv:1809.09600)."""

import random
from typing import Any

from longjax.evals.synthetic import prose
from longjax.evals.synthetic.settings import Files, SyntheticConfig, document

ARTICLES, PARAGRAPHS = 24, 4  # articles at least
DISTRACTORS = 8  # documents beside the two that answer


def files(world: SyntheticConfig) -> Files:
    words = max(12, world.words // 6)
    count = max(ARTICLES, world.examples // PARAGRAPHS)
    articles = [_article(world.rng("squad", i), i, words) for i in range(count)]
    yield "ruler/squad.json", document({"version": "made", "data": articles})
    yield "ruler/hotpotqa.json", document([_hops(world.rng("hotpotqa", i), i, words) for i in range(4 * count)])


def _article(rng: random.Random, number: int, words: int) -> dict[str, Any]:
    facts = prose.facts(rng, PARAGRAPHS)
    made = [_paragraph(rng, f"{number}-{i}", words, fact) for i, fact in enumerate(facts)]
    return {"title": f"{rng.choice(prose.TOWNS)}_{number}", "paragraphs": made}


def _paragraph(rng: random.Random, name: str, words: int, fact: prose.Fact) -> dict[str, Any]:
    context = prose.passage(rng, words, [fact.said])
    answer = {"text": fact.who, "answer_start": context.index(fact.who)}
    asked = {"question": f"Who owns the {fact.thing}?", "id": f"made-{name}", "answers": [answer]}
    unanswerable = {"question": "Who owns the wooden moon?", "id": f"made-{name}-none", "answers": []}
    qas = [asked | {"is_impossible": False}, unanswerable | {"is_impossible": True}]
    return {"context": context, "qas": qas}


def _hops(rng: random.Random, number: int, words: int) -> dict[str, Any]:
    """One document says who owns the thing, another where that person lives."""
    one, *others = prose.facts(rng, 1 + DISTRACTORS)
    owns, lives = f"{one.who} owns the {one.thing}.", f"{one.who} is a {one.trade} and lives in {one.town}."
    context = [
        [one.thing, prose.filler_sentences(rng, words, [owns])],
        [one.who, prose.filler_sentences(rng, words, [lives])],
    ]
    context += [[fact.who, prose.filler_sentences(rng, words, [fact.said])] for fact in others]
    facts = [[title, said.index(sentence)] for (title, said), sentence in zip(context, (owns, lives), strict=False)]
    context = [[title, [said[0], *(f" {x}" for x in said[1:])]] for title, said in context]  # as in the original
    rng.shuffle(context)
    return {
        "_id": f"made-{number}", "question": f"In which town lives the owner of the {one.thing}?", "answer": one.town,
        "type": "bridge", "level": "easy", "supporting_facts": facts, "context": context,
    }  # fmt: skip
