"""Seed and size of synthetic data, and the conversion of rows to files."""

import dataclasses
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from longjax.data.tokenizer import Tokenizer

Files = Iterator[tuple[str, bytes]]  # name below the folder, content


@dataclasses.dataclass(frozen=True, eq=False)
class SyntheticConfig:
    """Seed and size of synthetic data.

    Attributes:
      seed: of all random draws.
      words: approximate number of words of a document or context.
      examples: number of examples of a task.
      haystack: number of characters of the text in which needles are hidden.
      tokenizer: for files of tokens; None: there are none.

    """

    seed: int
    words: int
    examples: int
    haystack: int
    tokenizer: Tokenizer | None = None

    def rng(self, *name: Any) -> random.Random:
        """Return the generator of one file or example, so that no file depends on another."""
        return random.Random(f"{self.seed}/{'/'.join(map(str, name))}")

    def each(self, *name: Any, more: int = 0) -> Iterator[random.Random]:
        """Yield a generator for each example."""
        return (self.rng(*name, i) for i in range(self.examples + more))


def to_jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines in UTF-8, without escapes, as the benchmarks write them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def to_json(value: Any) -> bytes:
    """Return a value as indented JSON in UTF-8."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
