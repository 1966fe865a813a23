"""Parameters as an orbax checkpoint with one array a layer, so that neither writing nor reading needs much memory.

The folder has params/ with {"embed_VD": ..., "layers": {"00": {"q_DNH": ...}}}, and meta.json with the Hugging Face
configuration.
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
from longjax.checkpoints.layerwise import HfTensors, Leaf
from longjax.checkpoints.tensor_source import Tensors
from longjax.config import ModelConfig
from longjax.progress import ProgressFn

LAYOUT = "per_layer"
META = "meta.json"
DISK_FULL = os.strerror(errno.ENOSPC)


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """An array that is computed when it is written, and not kept."""

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
    """Writes lazy arrays one after the other, in the format of NumPy arrays."""

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> list[Any]:
        for value, info, arg in zip(values, infos, args or [None] * len(infos), strict=True):
            for written in await super().serialize([value.make()], [info], arg and [arg]):
                written.result()
        return []


def keys(leaf: Leaf) -> tuple[str, ...]:
    """Returns the path of a leaf in the checkpoint's tree."""
    return (leaf.name,) if leaf.layer is None else ("layers", f"{leaf.layer:02}", leaf.name)


def nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Returns the tree of values by path."""
    tree: dict[str, Any] = {}
    for (*path, last), x in flat.items():
        functools.reduce(lambda node, key: node.setdefault(key, {}), path, tree)[last] = x
    return tree


@functools.cache
def checkpointer() -> ocp.Checkpointer:
    """Returns the checkpointer of all folders, which knows lazy arrays."""
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
    """Writes a folder of orbax parameters.

    Args:
      folder: made if it is not there.
      tensors: in the types in which they are written.
      cfg: of the model.
      config: config.json of the model.
      extra: more files by name, such as the tokenizer.
      report: called with the share that is written.

    Raises:
      ValueError: the folder holds parameters already, or the disk is full.

    """
    path = folder.absolute() / "params"
    if path.exists():
        raise ValueError(f"{folder} already holds orbax parameters: choose another folder, or delete this one")
    param_mapping.check_names(tensors.shapes(), cfg)
    table_tensors, leaves = param_mapping.TableTensors(tensors, cfg), list(layerwise.leaves(cfg))
    count = itertools.count(1)

    def lazy(leaf: Leaf) -> LazyArray:
        def make() -> np.ndarray:
            report(next(count) / len(leaves), f"writing {'/'.join(keys(leaf))}")
            return layerwise.read_leaf(table_tensors, leaf, cfg)

        dtype = table_tensors.read(layerwise.hf_name(leaf, cfg), slice(0, 0)).dtype
        return LazyArray(make, layerwise.shape(leaf, cfg), dtype)

    with removed_if_disk_full(path):
        checkpointer().save(path, nested({keys(leaf): lazy(leaf) for leaf in leaves}))
    meta = {"layout": LAYOUT, "model": dataclasses.asdict(cfg), "config": config}
    with files.atomic_files(folder) as create:
        for name, content in extra.items():
            create(name).write(content)
        create(META).write((json.dumps(meta, indent=2) + "\n").encode())


@contextlib.contextmanager
def removed_if_disk_full(path: pathlib.Path) -> Iterator[None]:
    """Turns a full disk into one line, where orbax logs its threads, and removes what was written until then."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    except (OSError, ValueError) as error:
        for unfinished in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if DISK_FULL in str(error):
            raise ValueError(f"{path} cannot be written: {DISK_FULL}") from error
        raise
    finally:
        logging.set_verbosity(verbosity)


@dataclasses.dataclass(frozen=True)
class OrbaxFolder:
    """Reads the parameters that `write_orbax` wrote, a leaf at a time.

    Attributes:
      path: of params/.
      cfg: of the model.
      config: config.json of the model.

    """

    path: pathlib.Path
    cfg: ModelConfig
    config: dict[str, Any]

    @classmethod
    def open(cls, folder: pathlib.Path) -> "OrbaxFolder":
        """Opens a folder. Raises ValueError if meta.json is missing or damaged, or of another layout."""
        try:
            meta = json.loads((folder / META).read_text())
            cfg = ModelConfig(**meta["model"] | {"biases": tuple(meta["model"]["biases"])})
        except (OSError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / META} is missing or damaged: convert the checkpoint again") from error
        if meta.get("layout") != LAYOUT or not (folder / "params").exists():
            raise ValueError(f"{folder} holds no orbax parameters of one array a layer: convert the checkpoint again")
        return cls(folder.absolute() / "params", cfg, meta["config"])

    def tensors(self) -> HfTensors:
        """Returns the parameters by Hugging Face's names."""
        return HfTensors(self.leaf, self.dtype, self.cfg)

    def leaf(self, leaf: Leaf) -> np.ndarray:
        """Reads a leaf. Raises ValueError if its files are damaged."""
        restore = ocp.args.PyTreeRestore(
            item=nested({keys(leaf): 0}),
            restore_args=nested({keys(leaf): ocp.RestoreArgs(restore_type=np.ndarray)}),
            partial_restore=True,
        )
        try:
            return jax.tree.leaves(checkpointer().restore(self.path, args=restore))[0]
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} is damaged: {str(error).splitlines()[0]}; convert it again") from error

    def dtype(self, leaf: Leaf) -> np.dtype:
        """Returns the type of a leaf without reading it."""
        return np.dtype(self.dtypes[keys(leaf)])

    @functools.cached_property
    def dtypes(self) -> dict[tuple[str, ...], Any]:
        metadata = checkpointer().metadata(self.path).item_metadata
        assert metadata is not None
        stored = jax.tree_util.tree_leaves_with_path(metadata.tree)
        return {tuple(str(key.key) for key in path): x.dtype for path, x in stored}
