"""Reads files of torch.save (.bin, .pth) tensor by tensor; torch is needed for nothing else.

They are pickles: only tensors are unpickled (`weights_only`). A file is mapped into memory anew for every tensor, so
that what was read does not stay there.
"""

import importlib.util
import os
import pathlib
import pickle
from typing import Any

import jax.numpy as jnp
import numpy as np

from longjax.checkpoints.json_files import read_weight_map

WHOLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
COPY_AGAIN = "copy or download it again"
WRAPPERS = ("state_dict", "module", "model")  # what PyTorch Lightning, DeepSpeed and others put the tensors into
NUMPY_TYPES = ("bfloat16", "float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


class TorchFile:
    """The tensors of one file: a `Tensors`. Raises ValueError naming the file if it is missing or damaged."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._shapes = {name: tuple(x.shape) for name, x in map_file(self.path).items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return self.view(name, rows).copy()

    def view(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """Returns the same rows without reading them; the file stays mapped while the array lives."""
        return to_numpy(map_file(self.path)[name][rows])


class TorchFolder:
    """The tensors of a directory with pytorch_model.bin, or several and their index: a `Tensors`."""

    def __init__(self, folder: str | os.PathLike):
        folder = pathlib.Path(folder)
        whole, index = folder / WHOLE, folder / INDEX
        indexed = index.exists() and not whole.exists()  # else it may be of an older save
        weight_map = read_index(index) if indexed else dict.fromkeys([whole], None)
        self.files = {
            name: file for path, names in weight_map.items() for name, file in tensors_in(path, names).items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: file.shapes()[name] for name, file in self.files.items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return self.files[name].read(name, rows)


def read_index(index: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """Returns the names of the tensors in each file of the index. Raises ValueError if it is damaged."""
    files: dict[pathlib.Path, list[str]] = {}
    for name, file in read_weight_map(index).items():
        files.setdefault(index.parent / file, []).append(name)
    return files


def tensors_in(path: pathlib.Path, names: list[str] | None) -> dict[str, TorchFile]:
    """Returns the file by the names of its tensors; None: all. Raises ValueError if it lacks one of the index."""
    file = TorchFile(path)
    for name in names or ():
        if name not in file.shapes():
            raise ValueError(f"{path.parent / INDEX} lists {name} in {path.name}, which lacks it: {COPY_AGAIN}")
    return dict.fromkeys(names or file.shapes(), file)


def map_file(path: pathlib.Path) -> dict[str, Any]:
    """Returns torch's tensors by name, backed by the file. Raises ValueError if it is missing or damaged."""
    if importlib.util.find_spec("torch") is None:
        raise ValueError(f"{path} needs torch to be read: pip install torch, or take a *.safetensors checkpoint")
    import torch  # pyright: ignore[reportMissingImports]

    if not path.is_file():
        raise ValueError(f"{path} is missing: {COPY_AGAIN}")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is damaged, or holds more than tensors: {COPY_AGAIN}") from error
    except (EOFError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no torch file (of torch >= 1.6): {COPY_AGAIN}") from error
    if isinstance(tensors, dict):  # a training framework's checkpoint
        tensors = next((tensors[key] for key in WRAPPERS if isinstance(tensors.get(key), dict)), tensors)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and torch.is_tensor(x) for name, x in tensors.items()
    ):
        raise ValueError(f"{path} does not hold tensors by name, but a {type(tensors).__name__}")
    for name, x in tensors.items():
        check_dense(path, name, x)
    return {name: x.detach() for name, x in tensors.items()}


def check_dense(path: pathlib.Path, name: str, x: Any) -> None:
    """Raises ValueError if a tensor is of a type that NumPy lacks, or has more elements than its file stores."""
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in NUMPY_TYPES:
        raise ValueError(f"{path}: {name} is of type {dtype}: convert the weights to bfloat16 first")
    if str(x.layout) != "torch.strided" or x.numel() * x.itemsize > x.untyped_storage().nbytes():
        raise ValueError(f"{path}: {name} is sparse or expanded: save it as a dense, contiguous tensor")


def to_numpy(x: Any) -> np.ndarray:
    """Returns an array of the same memory as a torch tensor."""
    import torch  # pyright: ignore[reportMissingImports]

    if x.dtype == torch.bfloat16:  # NumPy has none of its own
        return x.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
    return x.numpy()
