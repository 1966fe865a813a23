"""Common English words for keys and lists: ours, or the user's in data_dir/ruler/words.json."""

import dataclasses
import functools
import itertools
import json
import pathlib
import random
from collections.abc import Sequence

from longjax.files import read_text, sha256_bytes

HERE = pathlib.Path(__file__).parent
KINDS = ("nouns", "adjectives", "verbs")
ONSETS, VOWELS, CODAS = "bcdfghklmnprstvw", "aeiou", "nrlsmt"


@dataclasses.dataclass(frozen=True)
class Words:
    """Words by part of speech, in alphabetic order; `name`: own, or the hash of the user's file."""

    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]
    name: str

    @functools.cached_property
    def all(self) -> tuple[str, ...]:
        """All words, in alphabetic order."""
        return tuple(sorted({*self.nouns, *self.adjectives, *self.verbs}))


def read_words(path: pathlib.Path) -> Words:
    """Return the words of the user's file if there is one, else ours. Raises ValueError if it is torn or too short."""
    if not path.exists():
        return Words(*(tuple((HERE / f"{kind}.txt").read_text("utf-8").split()) for kind in KINDS), name="own")
    data = path.read_bytes()
    try:
        content = json.loads(read_text(path))
        lists = [tuple(sorted(set(map(str, content[kind])))) for kind in KINDS]
    except (RecursionError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is torn, or not an object of lists {', '.join(KINDS)}: make it again") from error
    if min(map(len, lists)) < 1 or len(set().union(*lists)) < 40:
        raise ValueError(f"{path} has too few words: give some of each of {', '.join(KINDS)}, 40 or more together")
    return Words(*lists, name=f"words.json {sha256_bytes(data)[:12]}")


def read_english(path: pathlib.Path) -> list[str]:
    """Return the words of a JSON list, or of an object's values, as in RULER's english_words.json.

    Raises:
      ValueError: the file is torn, or of another schema.

    """
    try:
        content = json.loads(read_text(path))
        words = content if isinstance(content, list) else content.values()
        return sorted({word for word in words if isinstance(word, str)})
    except (RecursionError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is torn, or not a JSON list or object of words: get it again") from error


def synthetic_words(count: int) -> list[str]:
    """Return `count` words of random syllables, always the same: of two syllables, or more where two are too few."""
    syllables = [onset + vowel for onset, vowel in itertools.product(ONSETS, VOWELS)]
    parts = next(n for n in itertools.count(2) if len(syllables) ** n * len(CODAS) >= count)
    chosen = random.Random(0).sample(range(len(syllables) ** parts * len(CODAS)), count)
    return [synthetic_word(i, syllables, parts) for i in chosen]


def synthetic_word(i: int, syllables: Sequence[str], parts: int) -> str:
    """Return the i-th word of `parts` syllables and a consonant, in alphabetic order of the parts."""
    i, coda = divmod(i, len(CODAS))
    word = CODAS[coda]
    for _ in range(parts):
        i, syllable = divmod(i, len(syllables))
        word = syllables[syllable] + word
    return word
