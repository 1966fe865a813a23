"""What is hidden, how it is asked for, and what counts as found.

The first sentence, its question and the prompt are the study's (arXiv:2409.12181; the sentence is Greg Kamradt's).
The numbers follow EasyContext (github.com/jzhang38/EasyContext, eval_needle.py). The other sentences are ours.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

PROMPT = (
    "<|im_start|> This is a very long story book: <book> {context} </book>.\n"
    " Based on the content of the book, Question: {question}\nAnswer:"
)
CITIES = {  # the best thing to do there, as facts that an answer must name
    "San Francisco": ("eat a sandwich", "sit in Dolores Park on a sunny day"),
    "Lisbon": ("ride the old tram", "taste a custard tart"),
    "Kyoto": ("walk among the bamboo", "drink green tea"),
    "Nairobi": ("feed a giraffe", "listen to a street band"),
    "Oslo": ("swim in the fjord", "warm up in a sauna"),
    "Lima": ("watch the paragliders", "order fresh ceviche"),
    "Hanoi": ("cross the red bridge", "share a bowl of noodles"),
    "Quebec": ("climb the city walls", "skate on the river"),
}
MAX_NEEDLES = len(CITIES)  # needles of one prompt


class Needles(NamedTuple):
    """Sentences to hide, the first of them first.

    Attributes:
      sentences: with line ends around them.
      question: what is asked.
      answer: what is best said.
      facts: what an answer must name.
      lead: how the answer begins, as part of the prompt.

    """

    sentences: list[str]
    question: str
    answer: str
    facts: list[str]
    lead: str = ""


def best_things(count: int, places: Mapping[str, tuple[str, str]] = CITIES) -> Needles:
    """-> what is best to do in so many cities; the question asks for all of them."""
    cities = list(places)[:count]
    things = [" and ".join(places[city]) for city in cities]
    sentences = [f"\nThe best thing to do in {city} is {thing}.\n" for city, thing in zip(cities, things, strict=True)]
    what = "What is the best thing to do" if count == 1 else "What are the best things to do"
    facts = [fact for city in cities for fact in places[city]]
    return Needles(sentences, f"{what} in {join_with_and(cities)}?", f"{', '.join(things)}.", facts)


def join_with_and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def number_needles(count: int, rng: np.random.Generator, places: Sequence[str] = tuple(CITIES)) -> Needles:
    """-> numbers of so many cities; the first one is asked for, the others distract."""
    cities = rng.permutation(list(places))[:count].tolist()
    drawn = [str(int(n)) for n in rng.choice(9_000_000, count, replace=False) + 1_000_000]
    sentences = [f"\nThe special magic {city} number is: {n}.\n" for city, n in zip(cities, drawn, strict=True)]
    name = f"special magic {cities[0]} number"
    return Needles(sentences, f"What is the {name}?", drawn[0], [drawn[0]], f" The {name} is:")
