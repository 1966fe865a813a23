"""Readable prose of a small grammar, and facts about made-up people that questions ask for.

The words and the forms of sentences are in prose.json.
"""

import json
import pathlib
import random
from collections.abc import Sequence
from typing import NamedTuple

WORDS: dict[str, list[str]] = json.loads(pathlib.Path(__file__).with_name("prose.json").read_text("utf-8"))
FIRST, LAST, TOWNS, TRADES = (WORDS[name] for name in ("first", "last", "towns", "trades"))
THINGS, COLOURS, PLACES, ADJECTIVES = (WORDS[name] for name in ("things", "colours", "places", "adjectives"))


class Fact(NamedTuple):
    """Something that is said once. `who` is a name that no other fact of the same text has."""

    who: str
    town: str
    thing: str
    trade: str

    @property
    def said(self) -> str:
        return f"{self.who}, a {self.trade} in {self.town}, owns the {self.thing}."


def filler_sentence(rng: random.Random) -> str:
    pick = rng.choice
    return pick(WORDS["forms"]).format(
        when=pick(WORDS["when"]), trade=pick(TRADES), verb=pick(WORDS["verbs"]), adjective=pick(ADJECTIVES),
        thing=pick(THINGS), place=pick(PLACES), town=pick(TOWNS), colour=pick(COLOURS),
    )  # fmt: skip


def facts(rng: random.Random, count: int) -> list[Fact]:
    """-> facts whose people and things differ."""
    people = rng.sample([f"{first} {last}" for first in FIRST for last in LAST], count)
    things = rng.sample([f"{colour} {thing}" for colour in COLOURS for thing in THINGS], count)
    return [Fact(who, rng.choice(TOWNS), thing, rng.choice(TRADES)) for who, thing in zip(people, things, strict=True)]


def filler_sentences(rng: random.Random, words: int, said: Sequence[str] = ()) -> list[str]:
    """-> about so many words of prose, with what is `said` spread over it in this order."""
    made, count = [], sum(len(x.split()) for x in said)
    while count < words or not made:
        made.append(filler_sentence(rng))
        count += len(made[-1].split())
    places = sorted(rng.randrange(len(made) + 1) for _ in said)
    for place, one in reversed(list(zip(places, said, strict=True))):
        made.insert(place, one)
    return made


def paragraphs(made: Sequence[str], size: int = 6) -> str:
    return "\n\n".join(" ".join(made[i : i + size]) for i in range(0, len(made), size))


def prose_text(rng: random.Random, words: int, said: Sequence[str] = ()) -> str:
    return paragraphs(filler_sentences(rng, words, said))


def passage(rng: random.Random, words: int, said: Sequence[str] = ()) -> str:
    """-> one paragraph."""
    return " ".join(filler_sentences(rng, words, said))
