"""Needles to practise with: other towns and other things than those that are evaluated.

What is best to do there is put together of common words, so that it can only be copied.
"""

from collections.abc import Sequence

import numpy as np

from longjax.evals.needle.facts import Needles, best_things, number_needles
from longjax.evals.wordlists import Words

CITIES = (
    "Accra", "Adelaide", "Antwerp", "Bergen", "Bogota", "Boston", "Bristol", "Cairo", "Calgary", "Cape Town",
    "Cork", "Dakar", "Denver", "Dublin", "Fez", "Geneva", "Ghent", "Havana", "Helsinki", "Jakarta", "La Paz", "Leeds",
    "Madrid", "Manila", "Mexico City", "Naples", "New Orleans", "Osaka", "Porto", "Prague", "Quito", "Riga",
    "Rio de Janeiro", "Santa Fe", "Seoul", "Sydney", "Tallinn", "Tunis", "Valencia", "Warsaw",
)  # fmt: skip
FORMS = (
    "{verb} the {noun}",
    "{verb} a {adjective} {noun}",
    "{verb} in {name} Park",
    "{verb} in {name} {other} on a {adjective} day",
    "{verb} by the {adjective} {noun}",
    "{verb} a {noun} near the {other}",
)
MOST = 4  # needles of a prompt


def thing(rng: np.random.Generator, words: Words) -> str:
    name, other, noun = (pick(rng, words.nouns) for _ in range(3))
    verb, adjective = pick(rng, words.verbs), pick(rng, words.adjectives)
    form = pick(rng, FORMS)
    return form.format(verb=verb, adjective=adjective, noun=noun, name=name.capitalize(), other=other)


def pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def fact_sentences(rng: np.random.Generator, words: Words) -> Needles:
    """-> what is best to do in one town, asked for; and in some others, at random places among them."""
    towns = city_facts(rng)
    told = [best_things(1, {town: (thing(rng, words), thing(rng, words))}) for town in towns]
    return told[0]._replace(sentences=shuffled(rng, [one.sentences[0] for one in told]))


def magic(rng: np.random.Generator) -> Needles:
    """-> the numbers of some towns, one of which is asked for."""
    told = number_needles(int(rng.integers(1, MOST + 1)), rng, CITIES)
    return told._replace(sentences=shuffled(rng, told.sentences))


def city_facts(rng: np.random.Generator) -> list[str]:
    return [CITIES[int(i)] for i in rng.permutation(len(CITIES))[: rng.integers(1, MOST + 1)]]


def shuffled(rng: np.random.Generator, sentences: Sequence[str]) -> list[str]:
    return [sentences[int(i)] for i in rng.permutation(len(sentences))]
