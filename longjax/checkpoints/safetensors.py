"""Reads and writes files in the safetensors format, tensor by tensor.

The format: 8 bytes with the header's length, a JSON header of {name: {dtype, shape, data_offsets}}, the data.
"""

import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from longjax import files

DTYPES = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
INDEX = "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor within a file."""

    path: pathlib.Path
    begin: int  # its first byte in the file
    dtype: np.dtype
    shape: tuple[int, ...]

    def read(self, rows: slice = slice(None)) -> np.ndarray:
        """Reads the tensor, or rows of its first axis."""
        start, stop, step = rows.indices(self.shape[0]) if self.shape else (0, 1, 1)
        assert step == 1, rows
        shape = (max(stop - start, 0), *self.shape[1:]) if self.shape else ()
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        return pread(self.path, self.begin + start * row, math.prod(shape) * self.dtype.itemsize).view(
            self.dtype
        ).reshape(shape)  # fmt: skip


def pread(path: pathlib.Path, at: int, count: int) -> np.ndarray:
    """Reads `count` bytes from byte `at` on, and lets the system drop them from its cache, as they are read once."""
    data, done = np.empty(count, np.uint8), 0
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    try:
        while done < count:
            read = os.preadv(handle, [data.data[done:]], at + done)
            if not read:
                raise ValueError(f"{path} is damaged: it ends at byte {at + done}; copy or download it again")
            done += read
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, at, count, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return data


def read_header(path: pathlib.Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a file, unread. Raises ValueError if it is damaged or of another format."""
    if not path.exists():
        raise ValueError(f"{path} is missing; copy or download it again")
    size = path.stat().st_size
    try:
        start = 8 + int(pread(path, 0, 8).view("<u8")[0])
        if start > size:
            raise ValueError(f"a header of {start - 8} bytes in a file of {size}")
        entries = json.loads(pread(path, 8, start - 8).tobytes())
        entries.pop("__metadata__", None)
        return _stored_tensors(path, start, size, entries)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}; copy or download it again") from error


def _stored_tensors(path: pathlib.Path, start: int, size: int, entries: dict[str, Any]) -> dict[str, StoredTensor]:
    """Checks the entries of a header against the file's size; its data begins at byte `start`."""
    stored, end = {}, start
    for name, entry in entries.items():
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} is of type {entry['dtype']}, which is not supported")
        begin, stop = (start + offset for offset in entry["data_offsets"])
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        if stop - begin != math.prod(shape) * dtype.itemsize or begin < start:
            raise ValueError(f"{name} of shape {list(shape)} and type {entry['dtype']} in {stop - begin} bytes")
        stored[name], end = StoredTensor(path, begin, dtype, shape), max(end, stop)
    if end != size:
        raise ValueError(f"{size} bytes, where its header has {end}")
    return stored


class SafetensorsFolder:
    """The tensors of a Hugging Face directory, in one file or several: a `Tensors`.

    Raises ValueError naming the file that is damaged or missing, or that lacks a tensor of the index.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = pathlib.Path(folder)
        index = folder / INDEX
        self.stored = open_indexed(index) if index.exists() else open_all(folder)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: x.shape for name, x in self.stored.items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return self.stored[name].read(rows)


def open_indexed(index: pathlib.Path) -> dict[str, StoredTensor]:
    """Returns the tensors of an index, unread. Raises ValueError if it is damaged, or a file lacks one of them."""
    try:
        weight_map = dict(json.loads(index.read_text())["weight_map"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{index} is damaged: copy or download it again") from error
    stored = {file: read_header(index.parent / file) for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        if name not in stored[file]:
            raise ValueError(f"{index} lists {name} in {file}, which lacks it: they are of different models")
    return {name: stored[file][name] for name, file in weight_map.items()}


def open_all(folder: pathlib.Path) -> dict[str, StoredTensor]:
    """Returns the tensors of all files of a folder without index, unread, or of model.safetensors alone.

    Raises ValueError if there is no file, or two hold a tensor of the same name.
    """
    whole = folder / "model.safetensors"
    paths = [whole] if whole.exists() else sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} has no *.safetensors file")
    stored: dict[str, StoredTensor] = {}
    for path in paths:
        for name, x in read_header(path).items():
            if name in stored:
                raise ValueError(f"{name} is in {stored[name].path} and in {path}: remove one, or add {INDEX}")
            stored[name] = x
    return stored


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads all arrays of a file. Raises ValueError naming it if it is damaged."""
    return {name: x.read() for name, x in read_header(pathlib.Path(path)).items()}


def write_header(file: BinaryIO, tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
    """Writes the header of tensors, given by type and shape, whose data follows in this order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (dtype, shape) in tensors.items():
        end = start + dtype.itemsize * math.prod(shape)
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    file.write(len(text).to_bytes(8, "little") + text)


def write_data(file: BinaryIO, x: np.ndarray) -> None:
    """Writes the data of the next tensor of the header."""
    file.write(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)


def write_safetensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file of arrays by name, whole or not at all."""
    path = pathlib.Path(path)
    with files.atomic_files(path.parent) as create:
        file = create(path.name)
        write_header(file, {name: (x.dtype, x.shape) for name, x in tensors.items()})
        for x in tensors.values():
            write_data(file, x)


def to_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of a small file of arrays by name."""
    file = io.BytesIO()
    write_header(file, {name: (x.dtype, x.shape) for name, x in tensors.items()})
    for x in tensors.values():
        write_data(file, x)
    return file.getvalue()
