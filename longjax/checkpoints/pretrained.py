"""Models on disk: any directory is opened by what lies in it, loaded in place, and written for Hugging Face's tools."""

import dataclasses
import functools
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from longjax.checkpoints import hf_writer, orbax_params, param_mapping, safetensors
from longjax.checkpoints.adapters import Merged
from longjax.checkpoints.config_from_hf import method_of, model_of
from longjax.checkpoints.config_to_hf import SourceConfig, Style, export_config
from longjax.checkpoints.loader import OnHost
from longjax.checkpoints.loader import load as load  # params = load(checkpoint.tensors, checkpoint.cfg, mesh, dtype)
from longjax.checkpoints.meta_files import MetaFolder
from longjax.checkpoints.orbax_params import OrbaxFolder
from longjax.checkpoints.rope_to_hf import ExportTarget
from longjax.checkpoints.tensor_source import Tensors
from longjax.checkpoints.torch_files import TorchFolder
from longjax.config import ModelConfig
from longjax.methods.identity import method_identity, stable_repr
from longjax.methods.lora import Lora
from longjax.methods.method import Method, unchanged_weights
from longjax.progress import ProgressFn, no_progress

DTYPES = {"bfloat16": np.dtype(jnp.bfloat16), "float32": np.dtype("f4"), "float16": np.dtype("f2"), "source": None}
PROVENANCE_FILE = "longjax.json"  # beside a model that stock transformers cannot run
METHOD_PARAMS_FILE = "longjax.safetensors"  # parameters that only the method has


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


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """Reads config.json of a checkpoint. Raises ValueError if it is missing or damaged."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        advice = "name a folder of Hugging Face, Meta or longjax-convert"
        raise ValueError(f"{path} is missing or damaged: {advice}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no settings by name")
    return config


def open_checkpoint(
    folder: str | os.PathLike, adapter: str | os.PathLike | None = None, dtype: str = "bfloat16"
) -> Checkpoint:
    """Opens a checkpoint, and reads no tensor yet.

    Args:
      folder: of Hugging Face (*.safetensors or *.bin), of Meta (*.pth), or orbax parameters of `write_orbax`.
      adapter: folder with a LoRA adapter of PEFT or LongLoRA's release, merged into the weights in float32.
      dtype: of activations: bfloat16 or float32.

    Raises:
      ValueError: a file is missing, damaged, or describes a model that is not supported.

    """
    folder = pathlib.Path(folder)
    tensors, config = open_tensors(folder)
    merged = Merged(tensors, adapter, np.dtype(np.float32)) if adapter else tensors
    cfg = dataclasses.replace(param_mapping.fit_vocab(model_of(config), merged.shapes()), dtype=dtype)
    return Checkpoint(folder, cfg, method_of(config), merged, config)


def open_tensors(folder: pathlib.Path) -> tuple[Tensors, dict[str, Any]]:
    """Returns the tensors of a folder by Hugging Face's names, and its config.json or what that would be."""
    if (folder / orbax_params.META).exists():
        params = OrbaxFolder.open(folder)
        return params.tensors(), params.config
    if (folder / "params.json").exists() and not (folder / "config.json").exists():
        meta = MetaFolder(folder)
        return meta, meta.config()
    config = read_config(folder)
    if any(folder.glob("*.safetensors*")) or not any(folder.glob("*.bin*")):
        return safetensors.SafetensorsFolder(folder), config
    return TorchFolder(folder), config


@dataclasses.dataclass(frozen=True)
class ReservedRowsDropped:
    """The tensors that a model of this configuration has: no buffers, no second copy of a tied embedding."""

    inner: Tensors
    cfg: ModelConfig

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            name: param_mapping.their_shape(members, self.cfg)
            for name, members in param_mapping.pieces(self.cfg).items()
        }

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return param_mapping.Named(self.inner, self.cfg).read(name, rows)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
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
    most_bytes: int = hf_writer.MOST_BYTES


def export(
    folder: str | pathlib.Path, params: Mapping[str, Any], cfg: ModelConfig, method: Method,
    source: Checkpoint | None = None, how: ExportOptions = ExportOptions(), report: ProgressFn = no_progress,
) -> list[str]:  # fmt: skip
    """Writes a Hugging Face directory, in all processes of a run together; LoRA is merged. See `write`.

    `source` is what was extended: its configuration and its files for text are taken over.
    """
    if not (method.adapt is unchanged_weights or isinstance(method.adapt, Lora)):
        raise ValueError(f"{stable_repr(method.adapt)} cannot be merged into the weights")
    method_params = method_params_of(params)
    return write_checkpoint(
        folder, OnHost(params, method.adapt).tensors(cfg), cfg, method, source, method_params, how, report
    )


def write_checkpoint(
    folder: str | pathlib.Path, tensors: Tensors, cfg: ModelConfig, method: Method, source: Checkpoint | None,
    method_params: Mapping[str, Any], how: ExportOptions = ExportOptions(), report: ProgressFn = no_progress,
) -> list[str]:  # fmt: skip
    """-> warnings, which are also logged: where stock transformers cannot run the method, the weights are there all
    the same, and longjax.json says what the model is.
    """
    if how.dtype not in DTYPES:
        raise ValueError(f"--dtype={how.dtype} is not known: choose {', '.join(DTYPES)}")
    tensors = hf_writer.Cast(tensors, DTYPES[how.dtype], ReservedRowsDropped(source.tensors, cfg) if source else None)
    name = str(tensors.dtype_of(next(iter(tensors.shapes()))))
    given = SourceConfig(source.config, source.method) if source else None
    config, notes = export_config(ExportTarget(cfg, how.length, method_params), method, given, how.style, name)
    extra = hf_writer.copied(source.folder) if source else {}
    if notes:
        told = {"method": method_identity(method), "model": dataclasses.asdict(cfg), "stock": notes}
        extra[PROVENANCE_FILE] = hf_writer.as_json(told)
    if method_params:
        extra[METHOD_PARAMS_FILE] = in_bytes(flat(method_params))
    hf_writer.write_hf_folder(pathlib.Path(folder), tensors, config, extra, how.most_bytes, report)
    for note in notes:
        logging.warning("%s: stock transformers %s", folder, note)
    return notes


def method_params_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """-> the method's, without the adapters, which are merged; on the host."""
    method_params = dict(params.get("method", {}))
    rest = {name: x for name, x in method_params.pop("layers", {}).items() if not name.startswith("lora_")}
    return jax.tree.map(np.asarray, method_params | ({"layers": rest} if rest else {}))


def read_provenance(folder: pathlib.Path) -> dict[str, Any]:
    """-> what `write` said of a model that stock transformers cannot run; else nothing."""
    path = folder / PROVENANCE_FILE
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def load_method_params(folder: pathlib.Path) -> dict[str, Any]:
    """-> the parameters that only the method has, as `write` left them; else nothing."""
    method_params: dict[str, Any] = {}
    for name, x in (
        safetensors.read_safetensors(folder / METHOD_PARAMS_FILE) if (folder / METHOD_PARAMS_FILE).exists() else {}
    ).items():
        *path, last = name.split("/")
        functools.reduce(lambda tree, key: tree.setdefault(key, {}), path, method_params)[last] = x
    return method_params


def flat(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {"/".join(str(key.key) for key in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def in_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """-> a small safetensors file."""
    file = io.BytesIO()
    safetensors.write_header(file, {name: (x.dtype, x.shape) for name, x in tensors.items()})
    for x in tensors.values():
        safetensors.write_data(file, x)
    return file.getvalue()
