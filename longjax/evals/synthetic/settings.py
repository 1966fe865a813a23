"""What all self-made files share: seed and size; and how rows become files."""

import dataclasses
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from longjax.data.tokenizer import Tokenizer

Files = Iterator[tuple[str, bytes]]  # name below the folder, content


@dataclasses.dataclass(frozen=True, eq=False)
class SyntheticConfig:
    """How much is made, and of what.

    Attributes:
      seed: of all that is drawn.
      words: of a document or context, about.
      examples: of a task.
      haystack: characters of the text that needles are hidden in.
      tokenizer: for what is stored as tokens; None: nothing is.

    """

    seed: int
    words: int
    examples: int
    haystack: int
    tokenizer: Tokenizer | None = None

    def rng(self, *name: Any) -> random.Random:
        """-> of one file or example alone, so that no file depends on another."""
        return random.Random(f"{self.seed}/{'/'.join(map(str, name))}")

    def each(self, *name: Any, more: int = 0) -> Iterator[random.Random]:
        """-> a generator an example."""
        return (self.rng(*name, i) for i in range(self.examples + more))


def to_jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """-> an object a line, as the benchmarks write them: other scripts as they are."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def document(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
