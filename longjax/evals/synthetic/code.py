"""Examples of code completion, of small made-up functions."""

import random
from typing import Any

from longjax.evals.synthetic.prose import PLACES, THINGS

WORDS = 16  # of a function, about


def random_function(rng: random.Random) -> list[str]:
    """Return the lines of a function."""
    thing, place, number = rng.choice(THINGS), rng.choice(PLACES), rng.randint(2, 99)
    return [
        f"def {thing}s_of_{place}({place}, limit={number}):",
        f'    """Returns the {thing}s of a {place}, at most limit of them."""',
        f"    found = [{thing} for {thing} in {place} if {thing} is not None]",
        f"    return sorted(found)[:limit]{' or None' if number % 2 else ''}",
        "",
    ]


def source_lines(rng: random.Random, words: int) -> list[str]:
    """Return the lines of a file of about `words` words."""
    return [line for _ in range(max(1, words // WORDS)) for line in random_function(rng)]


def one_file(rng: random.Random, words: int) -> dict[str, Any]:
    """Return an example in one file, whose next line is like those of other functions before it."""
    *before, answer = [*source_lines(rng, words), *random_function(rng)[:4]]
    return {"context": "\n".join(before) + "\n", "input": "", "answers": [answer]}


def repository(rng: random.Random, words: int) -> dict[str, Any]:
    """Return an example of other files, and the beginning of the one to complete."""
    names = rng.sample(THINGS, 2)
    files = [f"# {name}.py\n" + "\n".join(source_lines(rng, words // 3)) + "\n" for name in names]
    *before, answer = [*source_lines(rng, words // 3), *random_function(rng)[:4]]
    return {"context": "\n".join(files), "input": "\n".join(before) + "\n", "answers": [answer]}
