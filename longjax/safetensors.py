"""Files in the safetensors format: read by memory mapping, so that only what is used is loaded.

The format: 8 bytes with the header's length, a JSON header of {name: {dtype, shape, data_offsets}}, the data.
"""

import json
import os
import pathlib
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

DTYPES = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """-> arrays by name, backed by the file. Raises ValueError naming the file if it is torn."""
    path = pathlib.Path(path)
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size >= 8 else np.zeros(0, np.uint8)
    try:
        start = 8 + int(data[:8].view("<u8")[0])
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        return {name: _view(data[start:], about) for name, about in header.items()}
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is torn or no safetensors file: {error}") from error


def _view(data: np.ndarray, about: dict) -> np.ndarray:
    begin, end = about["data_offsets"]
    return data[begin:end].view(DTYPES[about["dtype"]]).reshape(about["shape"])


def read_folder(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """-> all tensors of a checkpoint, in one file or several."""
    folder = pathlib.Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no *.safetensors file")
    return {name: x for file in files for name, x in read(file).items()}


def write(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes the file whole or not at all."""
    header, place = {}, 0
    for name, x in tensors.items():
        header[name] = {"dtype": NAMES[x.dtype], "shape": list(x.shape), "data_offsets": [place, place + x.nbytes]}
        place += x.nbytes
    said = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    said += b" " * (-len(said) % 8)  # tensors start aligned
    new = pathlib.Path(f"{path}.new")
    with new.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        for x in tensors.values():
            file.write(np.ascontiguousarray(x).tobytes())
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
