"""Parameters as an orbax checkpoint of one array a layer, so that neither writing nor reading needs much memory:
params/ with {"embed_VD": ..., "layers": {"00": {"q_DNH": ...}}}, and meta.json with the Hugging Face configuration.
"""

import contextlib
import dataclasses
import errno
import functools
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import type_handlers

from longjax import files
from longjax.checkpoints import layerwise, param_mapping
from longjax.checkpoints.layerwise import HfTensor, Leaf
from longjax.checkpoints.tensor_source import Tensors
from longjax.config import ModelConfig
from longjax.progress import ProgressFn

LAYOUT = "per_layer"
META = "meta.json"
FULL = os.strerror(errno.ENOSPC)


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """An array that is made when it is written, and then forgotten."""

    make: Callable[[], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class LazyArrayHandler(type_handlers.NumpyHandler):
    """Writes one after the other. What it has written is like any array of NumPy."""

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> list[Any]:
        for value, info, arg in zip(values, infos, args or [None] * len(infos), strict=True):
            for written in await super().serialize([value.make()], [info], arg and [arg]):
                written.result()
        return []


def keys(leaf: Leaf) -> tuple[str, ...]:
    return (leaf.name,) if leaf.layer is None else ("layers", f"{leaf.layer:02}", leaf.name)


def nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (*path, last), x in flat.items():
        functools.reduce(lambda node, key: node.setdefault(key, {}), path, tree)[last] = x
    return tree


@functools.cache
def checkpointer() -> ocp.Checkpointer:
    registry = type_handlers.create_type_handler_registry(
        (LazyArray, LazyArrayHandler()),
        (np.ndarray, type_handlers.NumpyHandler()),
        (jax.Array, type_handlers.ArrayHandler()),
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(type_handler_registry=registry))


def write_orbax(
    folder: pathlib.Path, tensors: Tensors, cfg: ModelConfig, config: Mapping[str, Any], extra: Mapping[str, bytes],
    report: ProgressFn,
) -> None:  # fmt: skip
    """The tensors in their types. Raises ValueError if there is something already, or the disk is full."""
    path = folder.absolute() / "params"
    if path.exists():
        raise ValueError(f"{folder} already holds orbax parameters: choose another folder, or delete this one")
    param_mapping.check_names(tensors.shapes(), cfg)
    named, every = param_mapping.Named(tensors, cfg), list(layerwise.leaves(cfg))
    count = itertools.count(1)

    def later(leaf: Leaf) -> LazyArray:
        def make() -> np.ndarray:
            report(next(count) / len(every), f"writing {'/'.join(keys(leaf))}")
            return layerwise.read_leaf(named, leaf, cfg)

        return LazyArray(make, layerwise.shape(leaf, cfg), named.read(layerwise.hf_name(leaf, cfg), slice(0, 0)).dtype)

    with undone_if_full(path):
        checkpointer().save(path, nested({keys(leaf): later(leaf) for leaf in every}))
    about = {"layout": LAYOUT, "model": dataclasses.asdict(cfg), "config": config}
    with files.atomic_files(folder) as create:
        for name, content in extra.items():
            create(name).write(content)
        create(META).write((json.dumps(about, indent=2) + "\n").encode())


@contextlib.contextmanager
def undone_if_full(path: pathlib.Path) -> Iterator[None]:
    """One line for a full disk, where orbax would log its threads; what was written until then is removed."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    except (OSError, ValueError) as error:
        for unfinished in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if FULL in str(error):
            raise ValueError(f"{path} cannot be written: {FULL}") from error
        raise
    finally:
        logging.set_verbosity(verbosity)


@dataclasses.dataclass(frozen=True)
class OrbaxFolder:
    """What `write` wrote, a leaf at a time.

    Attributes:
      config: that of the Hugging Face directory it came from.

    """

    path: pathlib.Path
    cfg: ModelConfig
    config: dict[str, Any]

    @classmethod
    def open(cls, folder: pathlib.Path) -> "OrbaxFolder":
        try:
            about = json.loads((folder / META).read_text())
            cfg = ModelConfig(**about["model"] | {"biases": tuple(about["model"]["biases"])})
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / META} is missing or damaged: convert the checkpoint again") from error
        if about.get("layout") != LAYOUT or not (folder / "params").exists():
            raise ValueError(f"{folder} holds no orbax parameters of one array a layer: convert the checkpoint again")
        return cls(folder.absolute() / "params", cfg, about["config"])

    def tensors(self) -> HfTensor:
        return HfTensor(self.leaf, self.dtype, self.cfg)

    def leaf(self, leaf: Leaf) -> np.ndarray:
        asked = ocp.args.PyTreeRestore(
            item=nested({keys(leaf): 0}),
            restore_args=nested({keys(leaf): ocp.RestoreArgs(restore_type=np.ndarray)}),
            partial_restore=True,
        )
        try:
            return jax.tree.leaves(checkpointer().restore(self.path, args=asked))[0]
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} is torn: {str(error).splitlines()[0]}; convert it again") from error

    def dtype(self, leaf: Leaf) -> np.dtype:
        return np.dtype(self.dtypes[keys(leaf)])

    @functools.cached_property
    def dtypes(self) -> dict[tuple[str, ...], Any]:
        about = checkpointer().metadata(self.path).item_metadata
        assert about is not None
        held = jax.tree_util.tree_leaves_with_path(about.tree)
        return {tuple(str(key.key) for key in path): x.dtype for path, x in held}
