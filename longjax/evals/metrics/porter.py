"""Porter's stemmer (Program 14, 1980) with the departures that nltk 3.8.1 makes by default, as `rouge_score` uses it.

A stem's measure m counts how often vowels are followed by consonants: [C](VC)^m[V].
"""

from collections.abc import Callable, Sequence

IRREGULAR = {
    "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "innings": "inning", "outings": "outing",
    "cannings": "canning",
}  # fmt: skip
UNCHANGED = {
    "sky", "die", "lie", "tie", "news", "inning", "outing", "canning", "howe", "proceed", "exceed", "succeed",
}  # fmt: skip
Rule = tuple[str, str]
NOUNS: Sequence[Rule] = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
)  # fmt: skip
ADJECTIVES: Sequence[Rule] = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
SUFFIXES = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


def stem(word: str) -> str:
    """Return the stem of an English word."""
    word = word.lower()
    if word in IRREGULAR or word in UNCHANGED:
        return IRREGULAR.get(word, word)
    if len(word) <= 2:
        return word
    for step in (plural, past, y_to_i, nouns, adjectives, suffixes, final_e, final_l):
        word = step(word)
    return word


def kinds(word: str) -> str:
    """Return a c (consonant) or a v (vowel) for each letter of a word."""
    found = ""
    for i, letter in enumerate(word):
        found += "v" if letter in "aeiou" or (letter == "y" and i and found[-1] == "c") else "c"
    return found


def measure(word: str) -> int:
    """Return m, the number of vowels that a consonant follows."""
    return kinds(word).count("vc")


def doubled(word: str) -> bool:
    """Whether a word ends in the same consonant twice."""
    return len(word) > 1 and word[-1] == word[-2] and kinds(word)[-1] == "c"


def is_short(word: str) -> bool:
    """Whether a word ends in consonant, vowel, consonant other than w, x, y; or is a vowel and a consonant."""
    return (kinds(word)[-3:] == "cvc" and word[-1] not in "wxy") or kinds(word) == "vc"


def plural(word: str) -> str:
    """Step 1a."""
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return replaced(word, (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")), lambda stem: True)


def past(word: str) -> str:
    """Step 1b."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return replaced(word, (("eed", "ee"),), has_measure)
    cut = next((word.removesuffix(end) for end in ("ed", "ing") if word.endswith(end)), None)
    return word if cut is None or "v" not in kinds(cut) else restored(cut)


def restored(cut: str) -> str:
    """Return the word before -ed or -ing was added: hopp(ing): hop, hop(ing): hope."""
    if cut.endswith(("at", "bl", "iz")):
        return cut + "e"
    if doubled(cut):
        return cut if cut[-1] in "lsz" else cut[:-1]
    return cut + "e" if measure(cut) == 1 and is_short(cut) else cut


def y_to_i(word: str) -> str:
    """Step 1c."""
    return word[:-1] + "i" if word.endswith("y") and len(word) > 2 and kinds(word)[-2] == "c" else word


def nouns(word: str) -> str:
    """Step 2."""
    if word.endswith("alli") and has_measure(word[:-4]):
        return nouns(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if has_measure(word[:-3]) else word
    return replaced(word, NOUNS, has_measure)


def adjectives(word: str) -> str:
    """Step 3."""
    return replaced(word, ADJECTIVES, has_measure)


def suffixes(word: str) -> str:
    """Step 4."""

    def removable(stem: str) -> bool:
        return measure(stem) > 1 and (not word.endswith("ion") or stem.endswith(("s", "t")))

    return replaced(word, [(suffix, "") for suffix in SUFFIXES], removable)


def final_e(word: str) -> str:
    """Step 5a."""
    stem = word[:-1]
    removable = word.endswith("e") and (measure(stem) > 1 or (measure(stem) == 1 and not is_short(stem)))
    return stem if removable else word


def final_l(word: str) -> str:
    """Step 5b."""
    return word[:-1] if word.endswith("ll") and measure(word[:-1]) > 1 else word


def has_measure(stem: str) -> bool:
    """Whether a stem's measure is positive."""
    return measure(stem) > 0


def replaced(word: str, rules: Sequence[Rule], allowed: Callable[[str], bool]) -> str:
    """Replace the ending of a word by the first rule whose ending it has, if `allowed` accepts its stem."""
    for ending, other in rules:
        if word.endswith(ending):
            stem = word.removesuffix(ending)
            return stem + other if allowed(stem) else word
    return word
