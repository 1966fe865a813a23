"""Files in the safetensors format: only what is asked for is read, and no more of it stays in memory.

The format: 8 bytes with the header's length, a JSON header of {name: {dtype, shape, data_offsets}}, the data.
"""

import dataclasses
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
    """Where one tensor lies."""

    path: pathlib.Path
    begin: int  # its first byte in the file
    dtype: np.dtype
    shape: tuple[int, ...]

    def read(self, rows: slice = slice(None)) -> np.ndarray:
        """-> the tensor, or these rows of its first axis."""
        start, stop, step = rows.indices(self.shape[0]) if self.shape else (0, 1, 1)
        assert step == 1, rows
        shape = (max(stop - start, 0), *self.shape[1:]) if self.shape else ()
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        return pread(self.path, self.begin + start * row, math.prod(shape) * self.dtype.itemsize).view(
            self.dtype
        ).reshape(shape)  # fmt: skip


def pread(path: pathlib.Path, at: int, count: int) -> np.ndarray:
    """-> bytes of a file; the system need not keep them, as they are read once."""
    data, got = np.empty(count, np.uint8), 0
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    try:
        while got < count:
            more = os.preadv(handle, [data.data[got:]], at + got)
            if not more:
                raise ValueError(f"{path} is torn: it ends at byte {at + got}; copy or download it again")
            got += more
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, at, count, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return data


def header(path: pathlib.Path) -> dict[str, StoredTensor]:
    """-> what the file holds. Raises ValueError naming the file if it is torn or something else."""
    if not path.exists():
        raise ValueError(f"{path} is missing; copy or download it again")
    size = path.stat().st_size
    try:
        start = 8 + int(pread(path, 0, 8).view("<u8")[0])
        if start > size:
            raise ValueError(f"a header of {start - 8} bytes in a file of {size}")
        said = json.loads(pread(path, 8, start - 8).tobytes())
        said.pop("__metadata__", None)
        return _checked(path, start, size, said)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is torn or no safetensors file: {error}; copy or download it again") from error


def _checked(path: pathlib.Path, start: int, size: int, said: dict[str, Any]) -> dict[str, StoredTensor]:
    held, end = {}, start
    for name, about in said.items():
        if about["dtype"] not in DTYPES:
            raise ValueError(f"{name} is of type {about['dtype']}, which is not read here")
        begin, stop = (start + offset for offset in about["data_offsets"])
        dtype, shape = DTYPES[about["dtype"]], tuple(about["shape"])
        if stop - begin != math.prod(shape) * dtype.itemsize or begin < start:
            raise ValueError(f"{name} of shape {list(shape)} and type {about['dtype']} in {stop - begin} bytes")
        held[name], end = StoredTensor(path, begin, dtype, shape), max(end, stop)
    if end != size:
        raise ValueError(f"{size} bytes, where its header tells of {end}")
    return held


class SafetensorsFolder:
    """The tensors of a Hugging Face directory, in one file or several: a `Tensors`.

    Raises ValueError naming the file that is torn or missing, or that lacks a tensor of the index.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = pathlib.Path(folder)
        index = folder / INDEX
        self.stored = indexed(index) if index.exists() else unindexed(folder)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: x.shape for name, x in self.stored.items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return self.stored[name].read(rows)


def indexed(index: pathlib.Path) -> dict[str, StoredTensor]:
    try:
        where = dict(json.loads(index.read_text())["weight_map"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{index} is damaged: copy or download it again") from error
    held = {file: header(index.parent / file) for file in sorted(set(where.values()))}
    for name, file in where.items():
        if name not in held[file]:
            raise ValueError(f"{index} says that {name} is in {file}, but it is not: they are of different models")
    return {name: held[file][name] for name, file in where.items()}


def unindexed(folder: pathlib.Path) -> dict[str, StoredTensor]:
    """All files there are, or model.safetensors if others lie beside it."""
    whole = folder / "model.safetensors"
    paths = [whole] if whole.exists() else sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} has no *.safetensors file")
    held: dict[str, StoredTensor] = {}
    for path in paths:
        for name, x in header(path).items():
            if name in held:
                raise ValueError(f"{name} is in {held[name].path} and in {path}: remove one, or add {INDEX}")
            held[name] = x
    return held


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """-> all arrays of one file. Raises ValueError naming it if it is torn."""
    return {name: x.read() for name, x in header(pathlib.Path(path)).items()}


def write_header(file: BinaryIO, tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
    """The header of tensors that follow in this order."""
    said: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, (dtype, shape) in tensors.items():
        end = place + dtype.itemsize * math.prod(shape)
        said[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(said).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    file.write(len(text).to_bytes(8, "little") + text)


def write_data(file: BinaryIO, x: np.ndarray) -> None:
    file.write(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)


def write_safetensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes the file whole or not at all."""
    path = pathlib.Path(path)
    with files.atomic_files(path.parent) as create:
        file = create(path.name)
        write_header(file, {name: (x.dtype, x.shape) for name, x in tensors.items()})
        for x in tensors.values():
            write_data(file, x)
