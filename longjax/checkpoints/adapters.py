"""Merges LoRA adapters of PEFT into their base, one tensor at a time: W + scale * B A (arXiv:2106.09685, eq. 3).

PEFT's directory is adapter_config.json and adapter_model.safetensors (or .bin); LongLoRA's release
(arXiv:2309.12307) has trainable_params.bin beside it, with embedding and norms that were trained whole.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from longjax.checkpoints.adapter_files import (
    CONFIG,
    PREFIX,
    Factors,
    adapter_factors,
    is_no_replacement,
    open_adapter,
    read_config,
    saved_name,
    targets,
)  # fmt: skip
from longjax.checkpoints.families import ignored
from longjax.checkpoints.json_files import first_names
from longjax.checkpoints.tensor_source import Tensors
from longjax.checkpoints.torch_files import TorchFile

TRAINED = "trainable_params.bin"
EMBEDS, HEAD = ("embed_tokens.weight", "wte.weight"), "lm_head.weight"
VOCAB = (*EMBEDS, HEAD, "lm_head.bias")  # tensors with a row a token
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class SeparateHead:
    """A base whose head is a tensor of its own, although it is tied to the embedding: a `Tensors`."""

    base: Tensors

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.base.shapes()
        return {HEAD: shapes[embedding_name(shapes)]} | shapes

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        shapes = self.base.shapes()
        return self.base.read(embedding_name(shapes) if name == HEAD and HEAD not in shapes else name, rows)


class MergedAdapter:
    """A base with an adapter merged in float32: a `Tensors` of the base's types, or of `dtype`.

    An adapter of the embedding or the head of a `tied` base makes two tensors of them (`unties`), as PEFT does.

    Raises ValueError naming what is missing or not supported.
    """

    def __init__(self, base: Tensors, folder: str | os.PathLike, dtype: np.dtype | None = None, tied: bool = False):
        folder = pathlib.Path(folder)
        self.adapter, self.dtype = open_adapter(folder), dtype
        config = read_config(folder / CONFIG)
        self.unties = tied and changes_vocabulary(self.adapter.shapes())
        self.base = base = SeparateHead(base) if self.unties else base
        self.factors = self._by_base_name(adapter_factors(self.adapter.shapes(), config, folder))
        self.replaced = self._by_base_name(
            {saved_name(name): (self.adapter, name) for name in self.adapter.shapes() if not is_no_replacement(name)}
        )
        self.new_rows: dict[str, int] = {}
        if (folder / TRAINED).exists():
            self._replace_trained(TorchFile(folder / TRAINED))
        missing = (self.factors.keys() | self.replaced.keys()) - base.shapes().keys()
        if missing:
            raise ValueError(f"{folder} changes tensors that the base does not have: {first_names(missing)}")
        self._check_complete(folder, config)
        self._check_shapes(folder)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self._shape(name, shape) for name, shape in self.base.shapes().items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        x = self._read_base(name, rows)
        dtype = self.dtype or x.dtype
        if name in self.replaced:
            tensors, stored = self.replaced[name]
            x = tensors.read(stored, rows)
        if name in self.factors:
            x = x.astype(np.float32) + self._delta(self.factors[name], rows)
        return x.astype(dtype, copy=False)

    def _read_base(self, name: str, rows: slice) -> np.ndarray:
        """Reads rows of the base; of a tensor that is replaced only the first, for its type."""
        if name in self.replaced:
            return self.base.read(name, slice(0, 1))
        if name in self.new_rows:
            return append_mean_rows(self.base.read(name), self.new_rows[name])[rows]
        return self.base.read(name, rows)

    def _shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if name in self.replaced:
            tensors, stored = self.replaced[name]
            return tensors.shapes()[stored]
        return (shape[0] + self.new_rows.get(name, 0), *shape[1:])

    def _delta(self, factors: Factors, rows: slice) -> np.ndarray:
        a, b = (self.adapter.read(name).astype(np.float32) for name in (factors.a, factors.b))
        product = a.T[rows] @ b.T if factors.transposed else b[rows] @ a
        return np.float32(factors.scale) * product

    def _by_base_name(self, changes: dict[str, T]) -> dict[str, T]:
        """Renames changes as the base names its tensors, which may lack the prefix that PEFT saw."""
        names = self.base.shapes()
        short = {name: name.partition(".")[2] for name in changes}
        return {short[n] if n not in names and short[n] in names else n: change for n, change in changes.items()}

    def _check_complete(self, folder: pathlib.Path, config: dict[str, Any]) -> None:
        """Raises ValueError if the adapter lacks a weight that its configuration trains."""
        weights = [name for name in self.base.shapes() if name.endswith(".weight")]
        lacking = [name for name in weights if name not in self.factors and targets(config, name)]
        saved = tuple(f".{module}.weight" for module in config.get("modules_to_save") or ())
        lacking += [name for name in weights if f".{name}".endswith(saved) and name not in self.replaced]
        if lacking:
            raise ValueError(f"{folder} lacks what {CONFIG} says it trains: {first_names(lacking)}; save it again")

    def _replace_trained(self, trained: Tensors) -> None:
        """Replaces what LongLoRA trained whole.

        It adds a [PAD] token: all tensors of the vocabulary get as many more rows as its embedding has.
        """
        shapes = self.base.shapes()
        for name, shape in trained.shapes().items():
            if ignored(name):
                continue
            self.replaced |= self._by_base_name({name.removeprefix(PREFIX): (trained, name)})
            if name.endswith(VOCAB) and name in shapes:
                added = shape[0] - shapes[name][0]
                self.new_rows |= {other: added for other in shapes if added > 0 and other.endswith(VOCAB)}

    def _check_shapes(self, folder: pathlib.Path) -> None:
        for name, factors in self.factors.items():
            (rank, inputs), (outputs, rank_b) = (self.adapter.shapes()[x] for x in (factors.a, factors.b))
            shape = (inputs, outputs) if factors.transposed else (outputs, inputs)
            if rank != rank_b or shape != self._shape(name, self.base.shapes()[name]):
                raise ValueError(f"{folder}: the adapter of {name} is of shape {shape}, not {self.base.shapes()[name]}")


def embedding_name(names: Iterable[str]) -> str:
    """Returns the name of the embedding. Raises ValueError if there is none."""
    embedding = next((name for name in names if name.endswith(EMBEDS)), None)
    if embedding is None:
        raise ValueError(f"the checkpoint has no embedding: no tensor {' or '.join(EMBEDS)}")
    return embedding


def changes_vocabulary(names: Iterable[str]) -> bool:
    """Returns whether an adapter has tensors of the embedding or the head."""
    return any(
        f"{module}." in f"{saved_name(name)}." for name in names for module in ("embed_tokens", "wte", "lm_head")
    )


def append_mean_rows(x: np.ndarray, count: int) -> np.ndarray:
    """Returns the array with `count` more rows, each the mean of the others."""
    mean = x.mean(0, dtype=np.float64, keepdims=True).astype(x.dtype)
    return np.concatenate([x, np.repeat(mean, count, 0)])
