"""Prose of a small grammar, and facts about made-up people that questions are about.

The words and the forms of sentences are in prose.json.
"""

import json
import pathlib
import random
from collections.abc import Sequence
from typing import NamedTuple

WORDS: dict[str, list[str]] = json.loads(pathlib.Path(__file__).with_name("prose.json").read_text("utf-8"))
FIRST, LAST, TOWNS, TRADES = (WORDS[name] for name in ("first", "last", "towns", "trades"))
THINGS, COLORS, PLACES, ADJECTIVES = (WORDS[name] for name in ("things", "colors", "places", "adjectives"))


class Fact(NamedTuple):
    """A fact that a text states once. `who` and `thing` are in no other fact of the same text."""

    who: str
    town: str
    thing: str
    trade: str

    @property
    def statement(self) -> str:
        """The sentence that states the fact."""
        return f"{self.who}, a {self.trade} in {self.town}, owns the {self.thing}."


def filler_sentence(rng: random.Random) -> str:
    """Return a random sentence."""
    pick = rng.choice
    return pick(WORDS["forms"]).format(
        when=pick(WORDS["when"]), trade=pick(TRADES), verb=pick(WORDS["verbs"]), adjective=pick(ADJECTIVES),
        thing=pick(THINGS), place=pick(PLACES), town=pick(TOWNS), color=pick(COLORS),
    )  # fmt: skip


def facts(rng: random.Random, count: int) -> list[Fact]:
    """Return facts with different people and things."""
    people = rng.sample([f"{first} {last}" for first in FIRST for last in LAST], count)
    things = rng.sample([f"{color} {thing}" for color in COLORS for thing in THINGS], count)
    return [Fact(who, rng.choice(TOWNS), thing, rng.choice(TRADES)) for who, thing in zip(people, things, strict=True)]


def filler_sentences(rng: random.Random, words: int, statements: Sequence[str] = ()) -> list[str]:
    """Return sentences of about `words` words, with the statements at random positions, in order."""
    sentences, count = [], sum(len(x.split()) for x in statements)
    while count < words or not sentences:
        sentences.append(filler_sentence(rng))
        count += len(sentences[-1].split())
    return insert_in_order(rng, sentences, statements)


def insert_in_order(rng: random.Random, sentences: list[str], statements: Sequence[str]) -> list[str]:
    """Insert statements at random positions among sentences, in order; changes and returns the list."""
    positions = sorted(rng.randrange(len(sentences) + 1) for _ in statements)
    for position, statement in reversed(list(zip(positions, statements, strict=True))):
        sentences.insert(position, statement)
    return sentences


def paragraphs(sentences: Sequence[str], size: int = 6) -> str:
    """Return sentences in paragraphs of `size` sentences."""
    return "\n\n".join(" ".join(sentences[i : i + size]) for i in range(0, len(sentences), size))


def prose_text(rng: random.Random, words: int, statements: Sequence[str] = ()) -> str:
    """Return `filler_sentences` in paragraphs."""
    return paragraphs(filler_sentences(rng, words, statements))


def passage(rng: random.Random, words: int, statements: Sequence[str] = ()) -> str:
    """Return `filler_sentences` in one paragraph."""
    return " ".join(filler_sentences(rng, words, statements))
