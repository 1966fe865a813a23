"""Writes a Hugging Face directory whole or not at all: weights in files of limited size, tokenizer, config.json."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import jax
import numpy as np

from longjax import files
from longjax.checkpoints import safetensors
from longjax.checkpoints.config_values import is_number
from longjax.checkpoints.tensor_source import Tensors
from longjax.progress import ProgressFn

MAX_FILE_BYTES = 5_000_000_000  # as transformers
PROVENANCE_FILE = "longjax.json"  # beside a model that stock transformers cannot run
METHOD_PARAMS_FILE = "longjax.safetensors"  # parameters that only the method has
TEMPLATES = "additional_chat_templates/*.jinja"
TEXT_FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json", "LICENSE",
    "LICENSE.txt", "LICENSE.md", "NOTICE", "USE_POLICY.md",
)  # fmt: skip
OWN_FILES = (PROVENANCE_FILE, METHOD_PARAMS_FILE)
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


@dataclasses.dataclass(frozen=True)
class Cast:
    """Tensors in another type, rounded to the nearest: a `Tensors`.

    Attributes:
      inner: the tensors.
      dtype: the type; None: that of each tensor in `like`, or in `inner`.
      like: tensors of the same names.

    """

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
            raise ValueError(
                f"--dtype=float16 cannot hold {name}, whose largest value is {np.abs(x).max():g}: use bfloat16"
            )
        return y

    def dtype_of(self, name: str) -> np.dtype:
        """Returns the type of a tensor without reading it."""
        return self.dtype or (self.like or self.inner).read(name, slice(0, 0)).dtype


def split_files(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    """Returns the names of each file's tensors, in order; a file has at most so many bytes, or one tensor."""
    groups: list[list[str]] = []
    free = 0
    for name, size in sizes.items():
        if not groups or size > free:
            groups.append([])
            free = max_bytes
        groups[-1].append(name)
        free -= size
    return groups


def file_names(count: int) -> list[str]:
    """Returns the names of `count` files of weights, as transformers names them."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]


def write_hf_folder(
    folder: pathlib.Path, tensors: Cast, config: Mapping[str, Any], extra: Mapping[str, bytes], max_bytes: int,
    report: ProgressFn,
) -> None:  # fmt: skip
    """Writes a directory, and removes weights of an earlier export to it.

    Every process reads, as arrays may be spread over all of them; the first one writes.

    Args:
      folder: made if it is not there.
      tensors: by Hugging Face's names.
      config: config.json, which is written last.
      extra: more files by name.
      max_bytes: of one file of weights.
      report: called with the share that is written.

    """
    shapes = tensors.shapes()
    dtypes = {name: tensors.dtype_of(name) for name in shapes}
    sizes = {name: dtypes[name].itemsize * math.prod(shape) for name, shape in shapes.items()}
    groups = split_files(sizes, max_bytes)
    written = dict(zip(file_names(len(groups)), groups, strict=True))
    others = dict(extra)
    if len(groups) > 1:
        others[safetensors.INDEX] = index_bytes(written, sum(sizes.values()))
    others["config.json"] = json_bytes(config)
    count = itertools.count(1)
    with first_process_writes(folder) as create:
        for file_name, names in written.items():
            file = create(file_name)
            safetensors.write_header(file, {name: (dtypes[name], shapes[name]) for name in names})
            for name in names:
                safetensors.write_data(file, tensors.read(name))
                report(next(count) / len(shapes), f"writing {file_name}: {name}")
        for name, content in others.items():
            create(name).write(content)
    if jax.process_index() == 0:
        for path in folder.iterdir():  # of an earlier export into this folder, or a killed one
            of_export = WEIGHTS.fullmatch(path.name.removesuffix(".new")) or path.name in OWN_FILES
            if of_export and path.name not in (written | others):
                path.unlink()


@contextlib.contextmanager
def first_process_writes(folder: pathlib.Path) -> Iterator[Callable[[str], BinaryIO]]:
    """Yields `files.atomic_files` in the first process; what the others write is dropped."""
    if jax.process_index() == 0:
        with files.atomic_files(folder) as create:
            yield create
    else:
        with open(os.devnull, "wb") as dropped:
            yield lambda name: dropped


def index_bytes(written: Mapping[str, list[str]], total: int) -> bytes:
    """Returns the index of several files: which file each tensor is in, and the bytes of all tensors."""
    weight_map = {name: file for file, names in written.items() for name in names}
    return json_bytes({"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})


def json_bytes(content: Any) -> bytes:
    """Returns the content of a JSON file."""
    return (json.dumps(content, indent=2) + "\n").encode()


def text_files(folder: pathlib.Path) -> dict[str, bytes]:
    """Reads the files of a directory for text and generation (tokenizer, chat templates ...), and its license."""
    paths = [folder / name for name in TEXT_FILES] + sorted(folder.glob(TEMPLATES))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def with_longer_texts(extra: Mapping[str, bytes], length: int) -> dict[str, bytes]:
    """Returns files of a checkpoint whose tokenizer cuts no text that is at most `length` tokens long."""
    name = "tokenizer_config.json"
    try:
        config = json.loads(extra.get(name, b"null"))
    except (RecursionError, ValueError):
        return dict(extra)
    limit = config.get("model_max_length") if isinstance(config, dict) else None
    if not is_number(limit) or limit >= length:
        return dict(extra)
    return {**extra, name: json_bytes(config | {"model_max_length": length})}
