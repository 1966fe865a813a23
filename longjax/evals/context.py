"""What all benchmarks share: the user's files, the tokenizer, lengths and seed; and how files are read."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from longjax.data.tokenizer import Tokenizer
from longjax.evals.requests import Record
from longjax.files import read_regular

SURROGATES = re.compile("[\ud800-\udfff]")  # halves of pairs, which JSON can hold and no text file
Reason = Callable[[Record], str | None]


def accept(record: Record) -> None:
    """Find no fault with any record: a `Reason`."""


@dataclasses.dataclass(frozen=True, eq=False)
class EvalContext:
    """What benchmarks make their requests of.

    Attributes:
      data_dir: the user's files, one folder a benchmark.
      tokenizer: of the model.
      lengths: of requests in tokens, those to generate included, for benchmarks that have a choice.
      seed: of all random draws.
      max_examples: limit of the examples of a task; None: the benchmark's number.
      prompts: folder with the benchmarks' own prompts (tools.extract_prompts); None: our wording.
      skip_bad: leave out lines of files that cannot be read, and count them; else the first one raises ValueError.
      trained_len: the context length of the base model, in tokens.

    """

    data_dir: pathlib.Path
    tokenizer: Tokenizer
    lengths: tuple[int, ...]
    seed: int = 0
    max_examples: int | None = None
    prompts: pathlib.Path | None = None
    skip_bad: bool = False
    trained_len: int = 4096

    def ids(self, text: str) -> np.ndarray:
        """Return the ids of a prompt, int32: the token that opens a text, if the tokenizer has one, and the text."""
        ids = self.tokenizer.encode(text)
        return np.concatenate([[self.tokenizer.bos_id], ids]).astype(np.int32) if self.tokenizer.bos_id >= 0 else ids

    def find_file(self, names: Sequence[str], holds: str, source: str) -> pathlib.Path:
        """Return the first of several paths below data_dir that exists.

        Args:
          names: the paths.
          holds: what the file holds, for the message.
          source: where a user gets it, for the message.

        Raises:
          ValueError: none of the paths exists.

        """
        path = next((path for name in names if (path := self.data_dir / name).exists()), None)
        if path is None:
            raise ValueError(
                f"--data_dir={self.data_dir} has no {' or '.join(names)}: {holds}. Get it from {source}; "
                "python -m tools.make_eval_data writes a small one"
            )
        return path

    def read_jsonl(
        self, path: pathlib.Path, fields: Sequence[str], texts: Sequence[str] = (), reason: Reason = accept
    ) -> tuple[list[Record], int]:
        """Read a file with a JSON object a line.

        Args:
          path: of the file, in UTF-8.
          fields: that every object has.
          texts: those of them that are texts.
          reason: why a record cannot be used; None: it can.

        Returns:
          The objects, and the number of lines that were left out.

        Raises:
          ValueError: the file is empty or not UTF-8, or, without skip_bad, a line is no such object.

        """
        good, bad = [], []
        for number, line in enumerate(read_regular(path).split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                record = parse_record(line, fields, texts)
                if why := reason(record):
                    raise ValueError(why)
                good.append(record)
            except ValueError as error:
                if not self.skip_bad:
                    raise ValueError(f"{path}, line {number}: {error} (--skip_bad leaves such lines out)") from error
                logging.warning("%s, line %d: %s; left out", path, number, error)
                bad.append(number)
        if not good:
            empty = "no line can be used" if bad else f"{path.name} is empty"
            raise ValueError(f"{path}: {empty}; it needs an object a line with {', '.join(fields)}")
        return good, len(bad)


def parse_record(line: bytes, fields: Sequence[str], texts: Sequence[str]) -> Record:
    """Return the object of a line. Raises ValueError unless it has these fields, and texts where texts belong."""
    try:
        record = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if missing := [name for name in fields if name not in record]:
        raise ValueError(f"no {', '.join(missing)}")
    if wrong := [name for name in texts if not isinstance(record[name], str)]:
        raise ValueError(f"{wrong[0]} must be a text, not {repr(record[wrong[0]])[:60]}")
    if SURROGATES.search(json.dumps(record, ensure_ascii=False)):
        raise ValueError("holds half of a surrogate pair")
    return record
