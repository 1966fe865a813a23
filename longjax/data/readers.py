"""Reads records from text files, JSON lines, parquet files, and folders that `datasets` saved.

A reader yields (record, share of the file that is read). A damaged file raises ValueError with its name; an unusable
record of an intact file is None. Parquet, arrow and zst files need pyarrow, which comes with the package datasets.
"""

import codecs
import gzip
import io
import itertools
import json
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]
Records = Iterator[tuple[Record | None, float]]

TEXT = (".md", ".py", ".rst", ".txt")
LINES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
SUFFIXES = (*TEXT, *LINES, ".parquet", ".arrow")
MAX_OBJECT = 2**28  # bytes of a file that may be a single object over several lines; longer ones are read line by line


def is_readable(path: pathlib.Path) -> bool:
    """Whether the file has a suffix of a known format."""
    return path.name.endswith(SUFFIXES)


def iter_records(path: pathlib.Path) -> Records:
    """Yields the records of a file, in the format of its suffix."""
    if path.name.endswith(TEXT):
        return text_records(path)
    if path.name.endswith(LINES):
        return line_records(path)
    if path.suffix == ".parquet":
        return parquet_records(path)
    if path.suffix == ".arrow":
        return arrow_records(path)
    raise ValueError(f"--input: {path} is of no known format: {' '.join(SUFFIXES)}, or a folder of them")


def text_records(path: pathlib.Path) -> Records:
    """Yields the file as one document."""
    try:
        yield {"text": path.read_text("utf-8-sig")}, 1.0
    except UnicodeDecodeError:
        yield None, 1.0


def line_records(path: pathlib.Path) -> Records:
    """Yields a record per line; or the members of the list, or the object, that the whole file is."""
    size = max(1, path.stat().st_size)
    try:
        with path.open("rb") as raw, _decompressed(raw, path) as file:
            lines = (line for line in file if line.strip())
            first = next(lines, b"")
            if first.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                yield from ((_record(x), 1.0) for x in json.loads(first + file.read()))
                return
            for line in _whole_or_lines(first, lines):
                yield _parsed(line), min(1.0, raw.tell() / size)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is torn or damaged ({error}): fetch it again") from error
    except (ValueError, RecursionError) as error:  # of json.loads
        raise ValueError(f"{path} is neither JSON lines nor a JSON list: {error}") from error


def _whole_or_lines(first: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the file as one piece if it is an object over several lines, else line by line."""
    if not first or _parsed(first) is not None:
        yield from itertools.chain([first] if first else [], lines)
        return
    head, size = [first], len(first)
    while size <= MAX_OBJECT and (line := next(lines, b"")):
        head.append(line)
        size += len(line)
    whole = b"".join(head)
    yield from head if size > MAX_OBJECT or _parsed(whole) is None else [whole]
    yield from lines


def _decompressed(raw: Any, path: pathlib.Path) -> io.BufferedReader:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))  # pyright: ignore
    if path.suffix == ".zst":
        return io.BufferedReader(_pyarrow(path).CompressedInputStream(raw, "zstd"))
    return raw


def _parsed(line: bytes) -> Record | None:
    try:
        return _record(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _record(x: Any) -> Record | None:
    return x if isinstance(x, dict) else None


def parquet_records(path: pathlib.Path) -> Records:
    """Yields the rows of a parquet file."""
    pa = _pyarrow(path)
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        done, total = 0, max(1, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=64):
            for row in _rows(pa, batch):
                done += 1
                yield row, done / total
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is torn or damaged ({_first_line(error)}): fetch it again") from error


def arrow_records(path: pathlib.Path) -> Records:
    """Yields the rows of a file that `datasets` saved."""
    pa, size = _pyarrow(path), max(1, path.stat().st_size)
    try:
        with path.open("rb") as raw, pa.ipc.open_stream(raw) as file:
            for batch in file:
                at = min(1.0, raw.tell() / size)
                yield from ((row, at) for row in _rows(pa, batch))
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is torn or damaged ({_first_line(error)}): save it again") from error


def _rows(pa: Any, batch: Any) -> Iterator[Record]:
    columns = [_cells(pa, column) for column in batch.columns] if batch.num_rows else []
    for cells in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, cells, strict=True))


def _cells(pa: Any, column: Any) -> Sequence[Any]:
    """-> the column's values; lists of integers as arrays, as an object for every token would be slow."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if not is_list or not pa.types.is_integer(column.type.value_type) or column.null_count:
        return column.to_pylist()
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
    return np.split(column.flatten().to_numpy(zero_copy_only=False), ends[:-1])


def dataset_files(folder: pathlib.Path) -> list[pathlib.Path] | None:
    """Returns the files of a folder that `datasets` saved, in its order; None if it is another folder."""
    if (folder / "dataset_dict.json").is_file():
        raise ValueError(f"--input: {folder} holds several splits: name one of the folders in it")
    if not (folder / "state.json").is_file():
        return None
    try:
        names = [x["filename"] for x in json.loads((folder / "state.json").read_text("utf-8"))["_data_files"]]
        outside = [name for name in names if pathlib.PurePath(name).name != name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / 'state.json'} is damaged: save the dataset again") from error
    if outside:
        raise ValueError(f"{folder / 'state.json'} names {outside[0]}, which is not a file of this folder")
    return [folder / name for name in names]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _pyarrow(path: pathlib.Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(f"{path} needs the package pyarrow: pip install pyarrow") from error
    return pyarrow
