"""The same as prose, in Chinese. The words and the forms of sentences are in chinese.json."""

import json
import pathlib
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

WORDS: dict[str, Any] = json.loads(pathlib.Path(__file__).with_name("chinese.json").read_text("utf-8"))


class ChineseFact(NamedTuple):
    """Something that is said once. `who` and `thing` are in no other fact of the same text."""

    who: str
    town: str
    thing: str
    trade: str

    def form(self, name: str) -> str:
        return WORDS[name].format(**self._asdict())


def random_facts(rng: random.Random, form: str) -> str:
    """-> the form with words in its places."""
    return form.format(
        trade=rng.choice(WORDS["trades"]), place=rng.choice(WORDS["places"]), thing=rng.choice(WORDS["things"]),
        town=rng.choice(WORDS["towns"]), colour=rng.choice(WORDS["colours"]),
    )  # fmt: skip


def facts(rng: random.Random, count: int) -> list[ChineseFact]:
    """-> facts whose people and things differ."""
    given, form = WORDS["given"], WORDS["coloured"]
    people = rng.sample([a + b + c for a in WORDS["surnames"] for b in given for c in given], count)
    things = rng.sample([form.format(colour=c, thing=t) for c in WORDS["colours"] for t in WORDS["things"]], count)
    return [
        ChineseFact(who, rng.choice(WORDS["towns"]), thing, rng.choice(WORDS["trades"]))
        for who, thing in zip(people, things, strict=True)
    ]


def chinese_text(rng: random.Random, characters: int, said: Sequence[str] = ()) -> str:
    """-> about so many characters, with what is `said` spread over them in this order."""
    made, count = [], sum(map(len, said))
    while count < characters or not made:
        made.append(random_facts(rng, rng.choice(WORDS["forms"])))
        count += len(made[-1])
    places = sorted(rng.randrange(len(made) + 1) for _ in said)
    for place, one in reversed(list(zip(places, said, strict=True))):
        made.insert(place, one)
    return "".join(made)
