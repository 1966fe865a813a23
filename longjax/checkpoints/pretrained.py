"""Opens checkpoints of any format, and writes them as Hugging Face directories."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util

from longjax.checkpoints import hf_writer, orbax_params, param_mapping, safetensors, torch_files
from longjax.checkpoints.adapters import MergedAdapter
from longjax.checkpoints.config_from_hf import method_of, model_of
from longjax.checkpoints.config_to_hf import SourceConfig, Style, export_config
from longjax.checkpoints.hf_writer import METHOD_PARAMS_FILE, PROVENANCE_FILE
from longjax.checkpoints.loader import OnHost
from longjax.checkpoints.loader import load as load
from longjax.checkpoints.meta_files import MetaFolder
from longjax.checkpoints.orbax_params import OrbaxFolder
from longjax.checkpoints.rope_to_hf import ExportTarget
from longjax.checkpoints.tensor_source import Tensors
from longjax.checkpoints.torch_files import TorchFolder
from longjax.config import ModelConfig
from longjax.files import read_object
from longjax.methods.identity import method_identity, stable_repr
from longjax.methods.lora import Lora
from longjax.methods.method import Method, unchanged_weights
from longjax.progress import ProgressFn, no_progress

DTYPES = {"bfloat16": np.dtype(jnp.bfloat16), "float32": np.dtype("f4"), "float16": np.dtype("f2"), "source": None}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model on disk; its tensors are not in memory.

    Attributes:
      folder: that it was opened from.
      cfg: the model's configuration, corrected by the shapes of the tensors.
      method: positions and attention that config.json asks for.
      tensors: by Hugging Face's names.
      config: config.json, or what it would be for another format.

    """

    folder: pathlib.Path
    cfg: ModelConfig
    method: Method
    tensors: Tensors
    config: dict[str, Any]

    def text_files(self) -> dict[str, bytes]:
        """Returns the files for text and generation (tokenizer, chat templates ...), and the license."""
        return hf_writer.text_files(self.folder)


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """Reads config.json of a checkpoint. Raises ValueError if it is missing or damaged."""
    return read_object(folder / "config.json", "name a folder of Hugging Face, Meta or longjax-convert")


def open_checkpoint(
    folder: str | os.PathLike, adapter: str | os.PathLike | None = None, dtype: str = "bfloat16"
) -> Checkpoint:
    """Opens a checkpoint, and reads no tensor yet, but for the second copy of a tied embedding.

    Args:
      folder: of Hugging Face (*.safetensors or *.bin), of Meta (*.pth), or orbax parameters of `write_orbax`.
      adapter: folder with a LoRA adapter of PEFT or LongLoRA's release, merged into the weights in float32.
      dtype: of activations: bfloat16 or float32.

    Raises:
      ValueError: a file is missing, damaged, describes a model that is not supported, or has other tensors than it.

    """
    folder = pathlib.Path(folder)
    if folder.suffix == ".gguf":
        raise ValueError(f"{folder} must be converted first: longjax-convert --from={folder} --to=hf --out=...")
    tensors, config = open_tensors(folder)
    if adapter:
        param_mapping.check_tied_head(tensors, model_of(config))
        tensors = MergedAdapter(tensors, adapter, np.dtype(np.float32), model_of(config).tied)
        config = config | ({"tie_word_embeddings": False} if tensors.unties else {})
    cfg = dataclasses.replace(param_mapping.fit_vocab(model_of(config), tensors.shapes()), dtype=dtype)
    method = method_of(config)
    param_mapping.check_names(tensors.shapes(), cfg)
    param_mapping.check_tied_head(tensors, cfg)
    return Checkpoint(folder, cfg, method, tensors, config)


def open_tensors(folder: pathlib.Path) -> tuple[Tensors, dict[str, Any]]:
    """Returns the tensors of a folder by Hugging Face's names, and its config.json or what that would be."""
    if (folder / orbax_params.META).exists():
        params = OrbaxFolder.open(folder)
        return params.tensors(), params.config
    if (folder / "params.json").exists() and not (folder / "config.json").exists():
        meta = MetaFolder(folder)
        return meta, meta.config()
    config = read_config(folder)
    standard = any((folder / name).exists() for name in (safetensors.WHOLE, safetensors.INDEX))
    if not standard and any((folder / name).exists() for name in (torch_files.WHOLE, torch_files.INDEX)):
        return TorchFolder(folder), config
    return safetensors.SafetensorsFolder(folder), config


@dataclasses.dataclass(frozen=True)
class ModelTensors:
    """Exactly the tensors that a model of this configuration has: a `Tensors`.

    Buffers and a second copy of a tied embedding are left out.
    """

    inner: Tensors
    cfg: ModelConfig

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            name: param_mapping.hf_shape(members, self.cfg)
            for name, members in param_mapping.tensor_members(self.cfg).items()
        }

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        return param_mapping.TableTensors(self.inner, self.cfg).read(name, rows)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """How a model is written.

    Attributes:
      dtype: of the weights: bfloat16, float32, float16, or source (each tensor's type in the source).
      style: dialect of config.json: both, or "4.36" for old releases of transformers alone.
      length: of the sequences that the model is for, in tokens; None: the method's. Frequencies that depend on the
        length (CLEX, dynamic NTK) are frozen at it.
      max_file_bytes: bytes of one file of weights.

    """

    dtype: str = "bfloat16"
    style: Style = "both"
    length: int | None = None
    max_file_bytes: int = hf_writer.MAX_FILE_BYTES


def export(
    folder: str | pathlib.Path, params: Mapping[str, Any], cfg: ModelConfig, method: Method,
    source: Checkpoint | None = None, options: ExportOptions = ExportOptions(), report: ProgressFn = no_progress,
) -> list[str]:  # fmt: skip
    """Writes parameters as a Hugging Face directory, with LoRA merged. All processes of a run must call it together.

    Args:
      folder: made if it is not there.
      params: of the model, the method's own included.
      cfg: of the model.
      method: that the model was trained or is used with.
      source: the checkpoint that was extended, whose configuration and tokenizer are taken over.
      options: how to write.
      report: called with the share that is written.

    Returns:
      Warnings, as `write_checkpoint`.

    Raises:
      ValueError: the method changes the weights in a way that cannot be merged; an option is not possible.

    """
    if not (method.adapt is unchanged_weights or isinstance(method.adapt, Lora)):
        raise ValueError(f"{stable_repr(method.adapt)} cannot be merged into the weights")
    method_params = method_params_of(params)
    return write_checkpoint(
        folder, OnHost(params, method.adapt).tensors(cfg), cfg, method, source, method_params, options, report
    )


def write_checkpoint(
    folder: str | pathlib.Path, tensors: Tensors, cfg: ModelConfig, method: Method, source: Checkpoint | None,
    method_params: Mapping[str, Any], options: ExportOptions = ExportOptions(), report: ProgressFn = no_progress,
) -> list[str]:  # fmt: skip
    """Writes tensors as a Hugging Face directory.

    Where stock transformers cannot run the method, the weights are the same, and longjax.json names the method.

    Args:
      folder: made if it is not there.
      tensors: by Hugging Face's names.
      cfg: of the model.
      method: that the model was trained or is used with.
      source: the checkpoint that was extended, whose configuration and tokenizer are taken over.
      method_params: parameters that only the method has.
      options: how to write.
      report: called with the share that is written.

    Returns:
      Warnings, which are also logged: what stock transformers computes differently.

    """
    if options.dtype not in DTYPES:
        raise ValueError(f"--dtype={options.dtype} is not known: choose {', '.join(DTYPES)}")
    tensors = hf_writer.Cast(tensors, DTYPES[options.dtype], ModelTensors(source.tensors, cfg) if source else None)
    dtype = str(tensors.dtype_of(next(iter(tensors.shapes()))))
    source_config = SourceConfig(source.config, source.method) if source else None
    target = ExportTarget(cfg, options.length, method_params)
    config, notes = export_config(target, method, source_config, options.style, dtype)
    extra = source.text_files() if source else {}
    extra = hf_writer.with_longer_texts(extra, config.get("max_position_embeddings", 0))
    if notes:
        provenance = {"method": method_identity(method), "model": dataclasses.asdict(cfg), "stock": notes}
        extra[PROVENANCE_FILE] = hf_writer.json_bytes(provenance)
    if method_params:
        extra[METHOD_PARAMS_FILE] = safetensors.to_bytes(flatten(method_params))
    hf_writer.write_hf_folder(pathlib.Path(folder), tensors, config, extra, options.max_file_bytes, report)
    for note in notes:
        logging.warning("%s: stock transformers %s", folder, note)
    return notes


def method_params_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the method's own parameters on the host, without LoRA's factors, which are merged."""
    method_params = dict(params.get("method", {}))
    rest = {name: x for name, x in method_params.pop("layers", {}).items() if not name.startswith("lora_")}
    return jax.tree.map(np.asarray, method_params | ({"layers": rest} if rest else {}))


def read_provenance(folder: pathlib.Path) -> dict[str, Any]:
    """Returns longjax.json, which `write_checkpoint` writes where stock transformers cannot run the method; else {}."""
    path = folder / PROVENANCE_FILE
    return read_object(path, "copy the checkpoint again") if path.exists() else {}


def load_method_params(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the parameters that only the method has, as `write_checkpoint` wrote them; {} if there are none."""
    path = folder / METHOD_PARAMS_FILE
    arrays = safetensors.read_safetensors(path) if path.exists() else {}
    return dict(traverse_util.unflatten_dict(arrays, sep="/"))


def flatten(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of a tree by path, names joined by "/"."""
    return {"/".join(str(key.key) for key in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
