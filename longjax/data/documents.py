"""Reads documents from input files: which files, which fields of a record, which source; always in the same order."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from longjax.data import readers


class RawDocument(NamedTuple):
    """A document before it is tokenized.

    Attributes:
      name: file and row; its split and all random choices depend on it alone.
      source: label of its source.
      file, row: number of the input file, and of the document in it.
      content: a text, token ids, or a conversation; None: the record has none.
      done: share of all inputs that is read.

    """

    name: str
    source: str
    file: int
    row: int
    content: str | np.ndarray | dict[str, Any] | None
    done: float


class InputFile(NamedTuple):
    """A file of documents.

    Attributes:
      path: of the file.
      name: label and path below the input's folder; it does not depend on where that folder lies.
      label: of the input, which is the source of its documents unless a field names it.
      size: in bytes.

    """

    path: pathlib.Path
    name: str
    label: str
    size: int


@dataclasses.dataclass(frozen=True)
class Fields:
    """Where the document is in a record.

    Attributes:
      text: the field with the text.
      source: the field with the source, with dots for nested ones; None: the input's label is the source.
      chat: whether records are conversations: messages, or prompt and completion.

    """

    text: str = "text"
    source: str | None = None
    chat: bool = False

    def __call__(self, record: dict[str, Any], location: str, label: str) -> Iterator[tuple[str, Any]]:
        """Yields (source, content) of each document of a record; `location` names the record in errors."""
        label = str(nested_field(record, self.source)) if self.source else label
        if self.chat:
            yield label, record
        elif self.text in record:
            yield label, record[self.text] if isinstance(record[self.text], str) else None
        elif "input_ids" in record:
            yield from _spans(record, label)
        else:
            raise ValueError(
                f"{location} has no field {self.text!r} but {', '.join(map(repr, record))}: see --text_field"
            )


def _spans(record: dict[str, Any], label: str) -> Iterator[tuple[str, Any]]:
    """Yields the record's ids; if it lists the spans of its documents, as those of arXiv:2402.10171 do, one by one."""
    ids = np.asarray(record["input_ids"])
    spans = record.get("source")
    if not isinstance(spans, list) or not all(isinstance(x, dict) and _is_span(x) for x in spans):
        yield label, ids
        return
    for span in spans:
        yield str(span.get("source", label)), ids[span["start"] : span["end"]]


def nested_field(record: Any, field: str) -> Any:
    """Returns record["a"]["b"] for the field "a.b"."""
    for key in field.split("."):
        if not isinstance(record, dict) or key not in record:
            known = ", ".join(map(repr, record)) if isinstance(record, dict) else repr(record)[:60]
            raise ValueError(f"--source_field={field}: a record has no such field, but {known}")
        record = record[key]
    return record


def _is_span(x: dict[str, Any]) -> bool:
    return type(x.get("start")) is type(x.get("end")) is int


def find_inputs(specs: Sequence[str], skip_bad: bool = False) -> list[InputFile]:
    """Lists the files of inputs.

    Args:
      specs: the values of --input, label:path.
      skip_bad: whether a folder may hold links to folders and files of other formats, which are not read.

    Returns:
      The files, in the order of the inputs and then of their paths.

    Raises:
      ValueError: an input has no label, does not exist, or holds no readable file; or a file that is not read.

    """
    inputs = []
    for spec in specs:
        label, colon, path = spec.partition(":")
        if not colon or not label or not path:
            raise ValueError(f"--input={spec} must be label:path, like books:/data/books")
        inputs += _input_files(spec, label, pathlib.Path(path))
        if not skip_bad and (unread := unread_files(pathlib.Path(path))):
            raise ValueError(
                f"--input={spec} holds {len(unread)} links to folders or files of no known format, the first "
                f"{unread[0]}: name the files to read, or pass --skip_bad"
            )
    return inputs


def unread_files(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns what `find_inputs` does not read below a folder, without hidden files; of a saved dataset, nothing."""
    if not root.is_dir() or readers.dataset_files(root):
        return []
    return sorted(p for p in _walk(root) if not readers.is_readable(p) and not p.name.startswith("."))


def _input_files(spec: str, label: str, root: pathlib.Path) -> list[InputFile]:
    if not root.exists():
        raise ValueError(f"--input={spec}: {root} does not exist")
    if root.is_file():
        if not readers.is_readable(root):
            raise ValueError(f"--input={spec} is of no known format: {' '.join(readers.SUFFIXES)}, or a folder of them")
        paths = [root]
    else:
        paths = readers.dataset_files(root) or sorted(p for p in _walk(root) if readers.is_readable(p))
    if not paths:
        raise ValueError(f"--input={spec}: {root} holds no {' '.join(readers.SUFFIXES)} files")
    if special := [p for p in paths if p.exists() and not p.is_file()]:
        raise ValueError(f"--input={spec}: {special[0]} is not an ordinary file: remove it")
    folder = root.parent if root.is_file() else root
    try:
        return [InputFile(p, f"{label}/{p.relative_to(folder).as_posix()}", label, p.stat().st_size) for p in paths]
    except OSError as error:
        raise ValueError(f"--input={spec}: {error.filename} is missing") from error


def _walk(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if pathlib.Path(folder, name).is_symlink()]  # os.walk does not follow them
        yield from (pathlib.Path(folder, name) for name in names + links)


def read_documents(
    inputs: Sequence[InputFile], fields: Fields, start: tuple[int, int] = (0, 0), skip_bad: bool = False
) -> Iterator[RawDocument]:
    """Yields the documents of all inputs.

    Args:
      inputs: the files.
      fields: where in a record the document is.
      start: number of the file and of the document in it to begin with.
      skip_bad: whether a first record without the fields is a document without content, as later ones are.

    Raises:
      ValueError: a file is damaged, or its first record lacks a field.

    """
    total, bytes_before = max(1, sum(file.size for file in inputs)), 0
    for number, file in enumerate(inputs):
        if number >= start[0]:
            first = start[1] if number == start[0] else 0
            for row, (source, content, share) in enumerate(_contents(file, fields, skip_bad)):
                if row >= first:
                    name = file.name if file.path.name.endswith(readers.TEXT) else f"{file.name}:{row}"
                    done = (bytes_before + share * file.size) / total
                    yield RawDocument(name, source, number, row, content, done)
        bytes_before += file.size


def _contents(file: InputFile, fields: Fields, skip_bad: bool) -> Iterator[tuple[str, Any, float]]:
    """Yields (source, content, share of the file). A missing field is a user's mistake only in the first record."""
    unusable = [(file.label, None)]
    for row, (record, share) in enumerate(readers.iter_records(file.path)):
        try:
            contents = unusable if record is None else list(fields(record, f"{file.path}, record 0", file.label))
        except ValueError:
            if row == 0 and not skip_bad:
                raise
            contents = unusable
        for source, content in contents:
            yield source, content, share
