"""Inputs to documents: which files, which fields, which label; in an order that is always the same."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from longjax.data import readers


class Raw(NamedTuple):
    """A document before it is tokenised.

    Attributes:
      name: of file and row; what its split and all random choices depend on.
      source: its label.
      file, row: which input, which document in it.
      content: text, ids, or a conversation; None: there is none.
      done: share of all inputs that is read.

    """

    name: str
    source: str
    file: int
    row: int
    content: str | np.ndarray | dict[str, Any] | None
    done: float


class Input(NamedTuple):
    """A file of documents: its path, its name without the folders above the input, the label, and its bytes."""

    path: pathlib.Path
    name: str
    label: str
    size: int


@dataclasses.dataclass(frozen=True)
class Fields:
    """Where in a record the document is.

    Attributes:
      text: the field with the text.
      source: the field with the source, dots for nested ones; None: the input's label.
      chat: whether records are conversations: messages, or prompt and completion.

    """

    text: str = "text"
    source: str | None = None
    chat: bool = False

    def __call__(self, record: dict[str, Any], where: str, label: str) -> Iterator[tuple[str, Any]]:
        """-> (source, content) of the record's documents."""
        label = str(nested(record, self.source)) if self.source else label
        if self.chat:
            yield label, record
        elif self.text in record:
            yield label, record[self.text] if isinstance(record[self.text], str) else None
        elif "input_ids" in record:
            yield from _spans(record, label)
        else:
            raise ValueError(f"{where} has no field {self.text!r} but {', '.join(map(repr, record))}: see --text_field")


def _spans(record: dict[str, Any], label: str) -> Iterator[tuple[str, Any]]:
    """-> the row's tokens; where it lists the spans of its documents (as arXiv:2402.10171's do), each of them."""
    ids = np.asarray(record["input_ids"])
    spans = record.get("source")
    if not isinstance(spans, list) or not all(isinstance(x, dict) and {"start", "end"} <= set(x) for x in spans):
        yield label, ids
        return
    for span in spans:
        yield str(span.get("source", label)), ids[span["start"] : span["end"]]


def nested(record: Any, field: str) -> Any:
    """-> record["a"]["b"] for "a.b"."""
    for key in field.split("."):
        if not isinstance(record, dict) or key not in record:
            raise ValueError(f"--source_field={field}: a record has no such field, but {', '.join(map(repr, record))}")
        record = record[key]
    return record


def find(specs: Sequence[str]) -> list[Input]:
    """-> the files of all --input=label:path, in the order of the flags and then of their names."""
    found = []
    for spec in specs:
        label, colon, path = spec.partition(":")
        if not colon or not label or not path:
            raise ValueError(f"--input={spec} must be label:path, like books:/data/books")
        found += _files(spec, label, pathlib.Path(path))
    return found


def _files(spec: str, label: str, root: pathlib.Path) -> list[Input]:
    if not root.exists():
        raise ValueError(f"--input={spec}: {root} does not exist")
    if root.is_file():
        if not readers.readable(root):
            raise ValueError(f"--input={spec} is of no known kind: {' '.join(readers.SUFFIXES)}, or a folder of them")
        paths = [root]
    else:
        paths = readers.dataset_files(root) or sorted(p for p in _walk(root) if readers.readable(p))
    if not paths:
        raise ValueError(f"--input={spec}: {root} holds no {' '.join(readers.SUFFIXES)} files")
    above = root.parent if root.is_file() else root
    try:
        return [Input(p, f"{label}/{p.relative_to(above).as_posix()}", label, p.stat().st_size) for p in paths]
    except OSError as error:
        raise ValueError(f"--input={spec}: {error.filename} is missing") from error


def _walk(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (pathlib.Path(folder, name) for name in names)


def documents(inputs: Sequence[Input], fields: Fields, start: tuple[int, int] = (0, 0)) -> Iterator[Raw]:
    """-> all documents from (file, row) on."""
    total, before = max(1, sum(x.size for x in inputs)), 0
    for number, one in enumerate(inputs):
        if number >= start[0]:
            first = start[1] if number == start[0] else 0
            for row, (source, content, share) in enumerate(_contents(one, fields)):
                if row >= first:
                    name = one.name if one.path.name.endswith(readers.TEXT) else f"{one.name}:{row}"
                    yield Raw(name, source, number, row, content, (before + share * one.size) / total)
        before += one.size


def _contents(one: Input, fields: Fields) -> Iterator[tuple[str, Any, float]]:
    """-> (source, content, share of the file). Only a file's first record can be a mistake with the flags."""
    for row, (record, share) in enumerate(readers.read_records(one.path)):
        try:
            found = [(one.label, None)] if record is None else list(fields(record, f"{one.path}, record 0", one.label))
        except ValueError:
            if row == 0:
                raise
            found = [(one.label, None)]
        for source, content in found:
            yield source, content, share
