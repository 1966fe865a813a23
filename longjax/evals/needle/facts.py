"""The needles, the questions about them, and the facts that an answer must hold.

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
    """Sentences to hide, in order.

    Attributes:
      sentences: with line ends around them.
      question: about them.
      answer: the reference answer.
      facts: that an answer must hold.
      answer_prefix: text with which the answer begins; part of the prompt.

    """

    sentences: list[str]
    question: str
    answer: str
    facts: list[str]
    answer_prefix: str = ""


def best_things(count: int, facts_of_city: Mapping[str, tuple[str, str]] = CITIES) -> Needles:
    """Return the best things to do in the first `count` cities; the question is about all of them."""
    cities = list(facts_of_city)[:count]
    things = [" and ".join(facts_of_city[city]) for city in cities]
    sentences = [f"\nThe best thing to do in {city} is {thing}.\n" for city, thing in zip(cities, things, strict=True)]
    what = "What is the best thing to do" if count == 1 else "What are the best things to do"
    facts = [fact for city in cities for fact in facts_of_city[city]]
    return Needles(sentences, f"{what} in {join_with_and(cities)}?", f"{', '.join(things)}.", facts)


def join_with_and(names: list[str]) -> str:
    """Join names with commas, and with "and" before the last."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def number_needles(count: int, rng: np.random.Generator, names: Sequence[str] = tuple(CITIES)) -> Needles:
    """Return numbers of `count` cities; the question is about the first one, the others are distractors."""
    cities = rng.permutation(list(names))[:count].tolist()
    numbers = [str(int(n)) for n in rng.choice(9_000_000, count, replace=False) + 1_000_000]
    sentences = [f"\nThe special magic {city} number is: {n}.\n" for city, n in zip(cities, numbers, strict=True)]
    name = f"special magic {cities[0]} number"
    return Needles(sentences, f"What is the {name}?", numbers[0], [numbers[0]], f" The {name} is:")
