"""Common English words, to make keys and lists of: ours, or the user's in data_dir/ruler/words.json."""

import dataclasses
import functools
import itertools
import json
import pathlib
import random

from longjax.files import sha256_bytes

HERE = pathlib.Path(__file__).parent
KINDS = ("nouns", "adjectives", "verbs")
ONSETS, VOWELS, CODAS = "bcdfghklmnprstvw", "aeiou", "nrlsmt"


@dataclasses.dataclass(frozen=True)
class Words:
    """By part of speech, in alphabetic order; `name`: own, or the hash of the user's file."""

    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]
    name: str

    @functools.cached_property
    def all(self) -> tuple[str, ...]:
        return tuple(sorted({*self.nouns, *self.adjectives, *self.verbs}))


def read_words(path: pathlib.Path) -> Words:
    """-> the words of the user's file if there is one, else ours."""
    if not path.exists():
        return Words(*(tuple((HERE / f"{kind}.txt").read_text("utf-8").split()) for kind in KINDS), name="own")
    data = path.read_bytes()
    try:
        held = json.loads(data)
        lists = [tuple(sorted(set(map(str, held[kind])))) for kind in KINDS]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is torn, or not an object of lists {', '.join(KINDS)}: make it again") from error
    if min(map(len, lists)) < 1 or len(set().union(*lists)) < 40:
        raise ValueError(f"{path} has too few words: give some of each of {', '.join(KINDS)}, 40 or more together")
    return Words(*lists, name=f"words.json {sha256_bytes(data)[:12]}")


def read_english(path: pathlib.Path) -> list[str]:
    """-> more words: a JSON list, or an object whose values they are, as RULER's english_words.json."""
    try:
        held = json.loads(path.read_text("utf-8"))
        found = held if isinstance(held, list) else held.values()
        return sorted({word for word in found if isinstance(word, str)})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is torn, or not a JSON list or object of words: get it again") from error


def made_words(count: int) -> list[str]:
    """-> so many words that look like words, always the same."""
    syllables = [onset + vowel for onset, vowel in itertools.product(ONSETS, VOWELS)]
    every = [a + b + coda for a, b, coda in itertools.product(syllables, syllables, CODAS)]
    if count > len(every):
        raise ValueError(f"lists of more than {len(every)} words cannot be made: give ruler/english_words.json")
    return random.Random(0).sample(every, count)
