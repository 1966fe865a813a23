"""Facts for needle task examples: other cities and other activities than those of the tests.

An activity is put together of common words, so that a model can only copy it from the context.
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
ACTIVITIES = (
    "{verb} the {noun}",
    "{verb} a {adjective} {noun}",
    "{verb} in {name} Park",
    "{verb} in {name} {other} on a {adjective} day",
    "{verb} by the {adjective} {noun}",
    "{verb} a {noun} near the {other}",
)
MAX_NEEDLES = 4  # of a prompt


def city_facts(rng: np.random.Generator, words: Words) -> Needles:
    """Returns the best things to do in up to MAX_NEEDLES cities, in random order, and a question about one of them."""
    cities = [CITIES[int(i)] for i in rng.permutation(len(CITIES))[: rng.integers(1, MAX_NEEDLES + 1)]]
    needles = [best_things(1, {city: (activity(rng, words), activity(rng, words))}) for city in cities]
    return needles[0]._replace(sentences=shuffle_sentences(rng, [needle.sentences[0] for needle in needles]))


def city_numbers(rng: np.random.Generator) -> Needles:
    """Returns the numbers of up to MAX_NEEDLES cities, in random order, and a question about one of them."""
    needles = number_needles(int(rng.integers(1, MAX_NEEDLES + 1)), rng, CITIES)
    return needles._replace(sentences=shuffle_sentences(rng, needles.sentences))


def activity(rng: np.random.Generator, words: Words) -> str:
    """Returns a random thing to do."""
    name, other, noun = (draw_word(rng, words.nouns) for _ in range(3))
    verb, adjective = draw_word(rng, words.verbs), draw_word(rng, words.adjectives)
    form = draw_word(rng, ACTIVITIES)
    return form.format(verb=verb, adjective=adjective, noun=noun, name=name.capitalize(), other=other)


def draw_word(rng: np.random.Generator, words: Sequence[str]) -> str:
    """Returns a random element."""
    return words[int(rng.integers(len(words)))]


def shuffle_sentences(rng: np.random.Generator, sentences: Sequence[str]) -> list[str]:
    """Returns the sentences in random order."""
    return [sentences[int(i)] for i in rng.permutation(len(sentences))]
