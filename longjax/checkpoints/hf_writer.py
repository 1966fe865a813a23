"""A Hugging Face directory, written whole or not at all: weights in files of limited size with their index, what the
source has for text, and config.json last.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import jax
import numpy as np

from longjax import files
from longjax.checkpoints import safetensors
from longjax.checkpoints.tensor_source import Tensors
from longjax.progress import ProgressFn

MOST_BYTES = 5_000_000_000  # of one file, as transformers does
COPIED = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


@dataclasses.dataclass(frozen=True)
class Cast:
    """Tensors in another type, rounded to the nearest: a `Tensors`. `dtype` None: those of `like`, or as they are."""

    inner: Tensors
    dtype: np.dtype | None
    like: Tensors | None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.inner.shapes()

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        x, dtype = self.inner.read(name, rows), self.dtype_of(name)
        if x.dtype == dtype:
            return x
        with np.errstate(over="ignore"):
            y = x.astype(dtype)
        if dtype == np.float16 and not np.array_equal(np.isfinite(x), np.isfinite(y)):
            raise ValueError(f"--dtype=float16 cannot hold {name}, which goes to {np.abs(x).max():g}: use bfloat16")
        return y

    def dtype_of(self, name: str) -> np.dtype:
        return self.dtype or (self.like or self.inner).read(name, slice(0, 0)).dtype


def split(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """-> names by file, in order, each file at most so many bytes, or one tensor."""
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = most
        groups[-1].append(name)
        room -= size
    return groups


def file_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]


def write_hf_folder(
    folder: pathlib.Path, tensors: Cast, config: Mapping[str, Any], extra: Mapping[str, bytes], most: int,
    report: ProgressFn,
) -> None:  # fmt: skip
    """Every process reads, as arrays may be spread over all of them; the first one writes."""
    shapes = tensors.shapes()
    dtypes = {name: tensors.dtype_of(name) for name in shapes}
    sizes = {name: dtypes[name].itemsize * math.prod(shape) for name, shape in shapes.items()}
    groups = split(sizes, most)
    written = dict(zip(file_names(len(groups)), groups, strict=True))
    said = dict(extra)
    if len(groups) > 1:
        said[safetensors.INDEX] = index(written, sum(sizes.values()))
    said["config.json"] = as_json(config)
    count = itertools.count(1)
    with creating(folder) as create:
        for file_name, names in written.items():
            file = create(file_name)
            safetensors.write_header(file, {name: (dtypes[name], shapes[name]) for name in names})
            for name in names:
                safetensors.write_data(file, tensors.read(name))
                report(next(count) / len(shapes), f"writing {file_name}: {name}")
        for name, content in said.items():
            create(name).write(content)
    if jax.process_index() == 0:
        for path in folder.iterdir():  # of an earlier export into this folder, or a killed one
            if WEIGHTS.fullmatch(path.name.removesuffix(".new")) and path.name not in (written | said):
                path.unlink()


@contextlib.contextmanager
def creating(folder: pathlib.Path) -> Iterator[Callable[[str], BinaryIO]]:
    """`files.together` in the first process; the others write to nowhere."""
    if jax.process_index() == 0:
        with files.atomic_files(folder) as create:
            yield create
    else:
        with open("/dev/null", "wb") as nowhere:
            yield lambda name: nowhere


def index(written: Mapping[str, list[str]], total: int) -> bytes:
    where = {name: file for file, names in written.items() for name in names}
    return as_json({"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})


def as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def copied(folder: pathlib.Path) -> dict[str, bytes]:
    """-> the files for text and generation, byte for byte."""
    return {name: (folder / name).read_bytes() for name in COPIED if (folder / name).exists()}
