"""Reads GGUF files of llama.cpp: dequantized tensors by Hugging Face's names, configuration, and tokenizer."""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from longjax.checkpoints import gguf_config, gguf_tokenizer, param_mapping
from longjax.checkpoints.config_from_hf import method_of, model_of
from longjax.checkpoints.json_files import first_names
from longjax.checkpoints.pretrained import Checkpoint
from longjax.checkpoints.tensor_names import GGUF

FREQUENCIES = "rope_freqs.weight"  # factors of RoPE's wavelengths
COPY_AGAIN = "copy or download it again"


@dataclasses.dataclass(frozen=True)
class GgufCheckpoint(Checkpoint):
    """A GGUF file as a checkpoint; its tokenizer is made from the metadata.

    Attributes:
      fields: the file's metadata by name.

    """

    fields: Mapping[str, Any]

    def text_files(self) -> dict[str, bytes]:
        """Returns tokenizer.json and its configuration, chat template, and the tokens that end a generation."""
        return gguf_tokenizer.text_files(self.folder, self.fields)


def open_gguf(path: pathlib.Path, dtype: str = "bfloat16") -> GgufCheckpoint:
    """Opens a file, and reads no tensor yet.

    Args:
      path: *.gguf of the architectures llama or qwen2.
      dtype: of activations: bfloat16 or float32.

    Raises:
      ValueError: the file is missing, damaged, or of a model or quantization that is not supported.

    """
    reader = read_gguf(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    stored = {tensor.name: tensor for tensor in reader.tensors}
    frequencies = stored.pop(FREQUENCIES, None)
    factors_R = None if frequencies is None else dequantized(path, frequencies, slice(None))
    shapes = {name: tuple(int(n) for n in tensor.shape[::-1]) for name, tensor in stored.items()}
    config = gguf_config.config_of(path, fields, shapes, factors_R)
    interleaved = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = GgufTensors(path, stored, interleaved if config["model_type"] == "llama" else {})
    cfg = dataclasses.replace(param_mapping.fit_vocab(model_of(config), tensors.shapes()), dtype=dtype)
    param_mapping.check_names(tensors.shapes(), cfg)
    return GgufCheckpoint(path, cfg, method_of(config), tensors, config, fields)


def read_gguf(path: pathlib.Path) -> Any:
    """Returns gguf's reader of a file. Raises ValueError if it is missing or damaged, or a type is not supported."""
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{path} needs the package gguf: pip install longjax[gguf]")
    import gguf  # pyright: ignore[reportMissingImports]

    if not path.is_file():
        raise ValueError(f"{path} is missing: {COPY_AGAIN}")
    try:
        return gguf.GGUFReader(path)
    except Exception as error:  # whatever a damaged file leads to
        raise ValueError(f"{path} is damaged, or no GGUF file of version 2 or 3: {COPY_AGAIN}") from error


class GgufTensors:
    """The tensors of a file in float32, by Hugging Face's names: a `Tensors`.

    Args:
      path: of the file.
      stored: gguf's tensors by name.
      interleaved: heads of the projections whose rows llama.cpp stores in Meta's order.

    Raises:
      ValueError: a tensor is no weight of a dense LLaMA, or of a type that cannot be dequantized.

    """

    def __init__(self, path: pathlib.Path, stored: Mapping[str, Any], interleaved: Mapping[str, int]):
        unknown = [name for name in stored if GGUF.in_hf(name) is None]
        if unknown:
            raise ValueError(f"{path}: {first_names(unknown)} not supported: dense llama and qwen2 models alone are")
        self.path, self.interleaved = path, interleaved
        self.stored = {str(GGUF.in_hf(name)): tensor for name, tensor in stored.items()}
        for tensor in self.stored.values():
            dequantized(path, tensor, slice(0, 1))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(int(n) for n in tensor.shape[::-1]) for name, tensor in self.stored.items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        tensor = self.stored[name]
        heads, shape = self.interleaved.get(tensor.name.split(".")[-2]), self.shapes()[name]
        start, stop, _ = rows.indices(shape[0])
        if start >= stop:
            return np.empty((0, *shape[1:]), np.float32)
        if heads is None:
            return dequantized(self.path, tensor, rows)
        read = functools.partial(dequantized, self.path, tensor)
        return param_mapping.reordered_rows(read, start, stop, shape[0] // heads)


def dequantized(path: pathlib.Path, tensor: Any, rows: slice) -> np.ndarray:
    """Returns rows of a tensor in float32. Raises ValueError if its type cannot be dequantized."""
    import gguf  # pyright: ignore[reportMissingImports]

    try:
        return np.array(gguf.dequantize(tensor.data[rows], tensor.tensor_type), np.float32)
    except NotImplementedError as error:
        kind = tensor.tensor_type.name
        raise ValueError(f"{path}: {tensor.name} is of type {kind}, which gguf cannot dequantize") from error
