"""Models on disk: any directory is opened by what lies in it, loaded in place, and written for Hugging Face's tools."""

import dataclasses
import functools
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from longjax.checkpoints import hf_writer as hf_folder
from longjax.checkpoints import orbax_params, safetensors
from longjax.checkpoints import param_mapping as convert
from longjax.checkpoints.adapters import Merged
from longjax.checkpoints.config_from_hf import method_of, model_of
from longjax.checkpoints.config_to_hf import Source, Style, export_config
from longjax.checkpoints.loader import OnHost
from longjax.checkpoints.loader import load as load  # params = load(checkpoint.tensors, checkpoint.cfg, mesh, dtype)
from longjax.checkpoints.meta_files import MetaFolder
from longjax.checkpoints.orbax_params import OrbaxFolder
from longjax.checkpoints.rope_to_hf import Asked
from longjax.checkpoints.tensor_source import Tensors
from longjax.checkpoints.torch_files import TorchFolder
from longjax.config import ModelConfig
from longjax.methods.identity import described, method_identity
from longjax.methods.lora import Lora
from longjax.methods.method import Method, unchanged
from longjax.progress import Report, quiet

DTYPES = {"bfloat16": np.dtype(jnp.bfloat16), "float32": np.dtype("f4"), "float16": np.dtype("f2"), "source": None}
OURS = "longjax.json"  # beside a model that stock transformers cannot run
OWN = "longjax.safetensors"  # parameters that only the method has


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model on disk; nothing of it is in memory.

    Attributes:
      cfg: as the tensors are, where config.json says otherwise.
      method: positions and attention that config.json asks for.
      tensors: by Hugging Face's names.
      config: config.json, or what it would be.

    """

    folder: pathlib.Path
    cfg: ModelConfig
    method: Method
    tensors: Tensors
    config: dict[str, Any]


def read_config(folder: pathlib.Path, flag: str) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"--{flag}={folder}: config.json is missing or damaged") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no settings by name")
    return config


def open_checkpoint(
    folder: str | pathlib.Path, adapter: str | None = None, dtype: str = "bfloat16", flag: str = "base_dir"
) -> Checkpoint:
    """A directory of Hugging Face (*.safetensors or *.bin), of Meta (*.pth) or of `orbax_params`; to compute in
    `dtype`. The adapter, if one is named, is merged in float32. `flag` is the one that named the folder.

    Raises ValueError naming the file that is missing or torn.
    """
    folder = pathlib.Path(folder)
    tensors, config = opened(folder, flag)
    merged = Merged(tensors, adapter, np.dtype(np.float32)) if adapter else tensors
    cfg = dataclasses.replace(convert.fitted(model_of(config), merged.shapes()), dtype=dtype)
    return Checkpoint(folder, cfg, method_of(config), merged, config)


def opened(folder: pathlib.Path, flag: str) -> tuple[Tensors, dict[str, Any]]:
    if (folder / orbax_params.META).exists():
        params = OrbaxFolder.open(folder)
        return params.tensors(), params.config
    if (folder / "params.json").exists() and not (folder / "config.json").exists():
        meta = MetaFolder(folder)
        return meta, meta.config()
    config = read_config(folder, flag)
    if any(folder.glob("*.safetensors*")) or not any(folder.glob("*.bin*")):
        return safetensors.SafetensorsFolder(folder), config
    return TorchFolder(folder), config


@dataclasses.dataclass(frozen=True)
class Tidy:
    """The tensors that a model of this configuration has: no buffers, no second copy of a tied embedding."""

    inner: Tensors
    cfg: ModelConfig

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: convert.their_shape(members, self.cfg) for name, members in convert.pieces(self.cfg).items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return convert.Named(self.inner, self.cfg).read(name, rows)


@dataclasses.dataclass(frozen=True)
class How:
    """How a model is written.

    Attributes:
      dtype: bfloat16, float32, float16, or source: each tensor as it was.
      style: of config.json: both dialects, or "4.36" for old releases of transformers alone.
      length: what the model is for; None: what the method says. CLEX and its like are frozen at it.
      most_bytes: of one file.

    """

    dtype: str = "bfloat16"
    style: Style = "both"
    length: int | None = None
    most_bytes: int = hf_folder.MOST_BYTES


def export(
    folder: str | pathlib.Path, params: Mapping[str, Any], cfg: ModelConfig, method: Method,
    source: Checkpoint | None = None, how: How = How(), report: Report = quiet,
) -> list[str]:  # fmt: skip
    """Writes a Hugging Face directory, in all processes of a run together; LoRA is merged. See `write`.

    `source` is what was extended: its configuration and its files for text are taken over.
    """
    if not (method.adapt is unchanged or isinstance(method.adapt, Lora)):
        raise ValueError(f"{described(method.adapt)} cannot be merged into the weights")
    own = own_parameters(params)
    return write(folder, OnHost(params, method.adapt).tensors(cfg), cfg, method, source, own, how, report)


def write(
    folder: str | pathlib.Path, tensors: Tensors, cfg: ModelConfig, method: Method, source: Checkpoint | None,
    own: Mapping[str, Any], how: How = How(), report: Report = quiet,
) -> list[str]:  # fmt: skip
    """-> warnings, which are also logged: where stock transformers cannot run the method, the weights are there all
    the same, and longjax.json says what the model is.
    """
    if how.dtype not in DTYPES:
        raise ValueError(f"--dtype={how.dtype} is not known: choose {', '.join(DTYPES)}")
    tensors = hf_folder.Cast(tensors, DTYPES[how.dtype], Tidy(source.tensors, cfg) if source else None)
    name = str(tensors.dtype_of(next(iter(tensors.shapes()))))
    given = Source(source.config, source.method) if source else None
    config, notes = export_config(Asked(cfg, how.length, own), method, given, how.style, name)
    extra = hf_folder.copied(source.folder) if source else {}
    if notes:
        told = {"method": method_identity(method), "model": dataclasses.asdict(cfg), "stock": notes}
        extra[OURS] = hf_folder.as_json(told)
    if own:
        extra[OWN] = in_bytes(flat(own))
    hf_folder.write(pathlib.Path(folder), tensors, config, extra, how.most_bytes, report)
    for note in notes:
        logging.warning("%s: stock transformers %s", folder, note)
    return notes


def own_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """-> the method's, without the adapters, which are merged; on the host."""
    own = dict(params.get("method", {}))
    rest = {name: x for name, x in own.pop("layers", {}).items() if not name.startswith("lora_")}
    return jax.tree.map(np.asarray, own | ({"layers": rest} if rest else {}))


def said_of(folder: pathlib.Path) -> dict[str, Any]:
    """-> what `write` said of a model that stock transformers cannot run; else nothing."""
    path = folder / OURS
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def load_own(folder: pathlib.Path) -> dict[str, Any]:
    """-> the parameters that only the method has, as `write` left them; else nothing."""
    own: dict[str, Any] = {}
    for name, x in (safetensors.read(folder / OWN) if (folder / OWN).exists() else {}).items():
        *path, last = name.split("/")
        functools.reduce(lambda tree, key: tree.setdefault(key, {}), path, own)[last] = x
    return own


def flat(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {"/".join(str(key.key) for key in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def in_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """-> a small safetensors file."""
    file = io.BytesIO()
    safetensors.write_header(file, {name: (x.dtype, x.shape) for name, x in tensors.items()})
    for x in tensors.values():
        safetensors.write_data(file, x)
    return file.getvalue()
