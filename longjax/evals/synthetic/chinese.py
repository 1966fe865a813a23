"""Chinese text of a small grammar, and facts about people; words and forms of sentences are in chinese.json."""

import json
import pathlib
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from longjax.evals.synthetic.prose import insert_in_order

WORDS: dict[str, Any] = json.loads(pathlib.Path(__file__).with_name("chinese.json").read_text("utf-8"))


class ChineseFact(NamedTuple):
    """A fact that a text states once. `who` and `thing` are in no other fact of the same text."""

    who: str
    town: str
    thing: str
    trade: str

    def form(self, name: str) -> str:
        """Return the form of chinese.json with this name, filled with the fact."""
        return WORDS[name].format(**self._asdict())


def fill_form(rng: random.Random, form: str) -> str:
    """Return a form filled with random words."""
    return form.format(
        trade=rng.choice(WORDS["trades"]), place=rng.choice(WORDS["places"]), thing=rng.choice(WORDS["things"]),
        town=rng.choice(WORDS["towns"]), color=rng.choice(WORDS["colors"]),
    )  # fmt: skip


def facts(rng: random.Random, count: int) -> list[ChineseFact]:
    """Return facts with different people and things."""
    given, form = WORDS["given"], WORDS["colored"]
    people = rng.sample([a + b + c for a in WORDS["surnames"] for b in given for c in given], count)
    things = rng.sample([form.format(color=c, thing=t) for c in WORDS["colors"] for t in WORDS["things"]], count)
    return [
        ChineseFact(who, rng.choice(WORDS["towns"]), thing, rng.choice(WORDS["trades"]))
        for who, thing in zip(people, things, strict=True)
    ]


def chinese_text(rng: random.Random, characters: int, statements: Sequence[str] = ()) -> str:
    """Return about `characters` characters of text with the statements at random positions, in order."""
    sentences, count = [], sum(map(len, statements))
    while count < characters or not sentences:
        sentences.append(fill_form(rng, rng.choice(WORDS["forms"])))
        count += len(sentences[-1])
    return "".join(insert_in_order(rng, sentences, statements))
