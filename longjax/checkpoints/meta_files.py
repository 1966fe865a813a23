"""Reads Meta's releases of LLaMA: params.json and consolidated.NN.pth, each file with a shard of every matrix.

Shards are joined, names become Hugging Face's, and the rows of q and k take its order.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from longjax.checkpoints.json_files import first_names
from longjax.checkpoints.param_mapping import reordered_rows
from longjax.checkpoints.tensor_names import META
from longjax.checkpoints.torch_files import COPY_AGAIN, TorchFile
from longjax.files import read_object

COLUMNS = ("o_proj.weight", "down_proj.weight")  # split over their inputs; the others over their outputs
PARAMS = {  # keys of params.json that are read, or do not change the model
    "dim", "n_layers", "n_heads", "n_kv_heads", "norm_eps", "rope_theta", "use_scaled_rope", "vocab_size", "head_dim",
    "multiple_of", "ffn_dim_multiplier", "hidden_dim", "max_seq_len", "max_batch_size",
}  # fmt: skip
LLAMA_32 = {(2048, 16), (3072, 28)}  # (dim, layers) of Llama 3.2, whose RoPE factor is 32; no file has it
EMBED, HEAD, FFN = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.gate_proj.weight"


class MetaFolder:
    """The tensors of a release by Hugging Face's names: a `Tensors`.

    Raises ValueError naming the file that is missing or damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = pathlib.Path(folder)
        self.params = read_params(folder / "params.json")
        paths = sorted(folder.glob("consolidated.*.pth"))
        self.shards = [TorchFile(path) for path in paths or [folder / "consolidated.00.pth"]]
        self.names = {META.in_hf(name) or name: name for name in shard_shapes(self.shards[0])}
        check_shards(folder, self.shards, self.params["dim"])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self._shape(name) for name in self.names}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        shape, axis, stored = self._shape(name), self._axis(name), self.names[name]
        if axis is None:
            return self.shards[0].read(stored, rows)
        start, stop, _ = rows.indices(shape[0])
        if axis == 1:
            return concatenate((shard.view(stored, rows) for shard in self.shards), (stop - start, shape[1]), 1)
        heads = self._heads(name)
        if heads is None or start == stop:
            return self._rows(stored, start, stop)
        return reordered_rows(lambda whole: self._rows(stored, whole.start, whole.stop), start, stop, shape[0] // heads)

    def _rows(self, stored: str, start: int, stop: int) -> np.ndarray:
        """Reads rows of a tensor whose rows are spread over the files, from those files that have them."""
        size = self.shards[0].shapes()[stored][0]
        spans = [(max(start - i * size, 0), min(stop - i * size, size)) for i in range(len(self.shards))]
        filled = [(shard, lo, hi) for shard, (lo, hi) in zip(self.shards, spans, strict=True) if lo < hi]
        views = (shard.view(stored, slice(lo, hi)) for shard, lo, hi in filled or [(self.shards[0], 0, 0)])
        return concatenate(views, (stop - start, *self.shards[0].shapes()[stored][1:]), 0)

    def config(self) -> dict[str, Any]:
        """Returns config.json as Hugging Face would write it."""
        params, shapes = self.params, self.shapes()
        for name in (EMBED, FFN):
            if name not in shapes:
                raise ValueError(f"{self.shards[0].path} has no {name}: {COPY_AGAIN}")
        config = {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
            "vocab_size": shapes[EMBED][0], "hidden_size": params["dim"], "num_hidden_layers": params["n_layers"],
            "num_attention_heads": params["n_heads"], "num_key_value_heads": self._kv_heads(),
            "intermediate_size": shapes[FFN][0],
            "rms_norm_eps": params.get("norm_eps", 1e-5), "rope_theta": params.get("rope_theta", 10_000.0),
            "max_position_embeddings": meta_trained_len(params), "tie_word_embeddings": HEAD not in shapes,
        }  # fmt: skip
        return config | {"rope_scaling": rope_scaling(params)}

    def _shape(self, name: str) -> tuple[int, ...]:
        shape, axis = list(self.shards[0].shapes()[self.names[name]]), self._axis(name)
        if axis is not None:
            shape[axis] *= len(self.shards)
        return tuple(shape)

    def _axis(self, name: str) -> int | None:
        """Returns the axis that a tensor is split along over the files; None: each file has the whole."""
        shape = self.shards[0].shapes()[self.names[name]]
        if len(shape) == 1:
            return None
        if name == EMBED:  # LLaMA-1 and 2 split its width, Llama-3 its rows
            return 1 if shape[1] < self.params["dim"] else 0
        return 1 if name.endswith(COLUMNS) else 0

    def _heads(self, name: str) -> int | None:
        """Returns the number of heads whose rows are to be reordered; None: none."""
        return self.params["n_heads"] if ".q_proj." in name else self._kv_heads() if ".k_proj." in name else None

    def _kv_heads(self) -> int:
        return self.params.get("n_kv_heads") or self.params["n_heads"]


def read_params(path: pathlib.Path) -> dict[str, Any]:
    """Reads params.json. Raises ValueError if it is missing or damaged."""
    content = read_object(path, COPY_AGAIN)
    try:
        params = content.get("model", content)
        params = params | {name: int(params[name]) for name in ("dim", "n_layers", "n_heads")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is missing or damaged: {COPY_AGAIN}") from error
    unread = [key for key in params.keys() - PARAMS if params[key] not in (None, False)]
    if params.get("head_dim") not in (None, params["dim"] // params["n_heads"]):
        unread.append("head_dim")
    if unread:
        raise ValueError(f"{path}: {first_names(unread)} not supported: take the release in Hugging Face's format")
    return params


def concatenate(views: Iterator[np.ndarray], shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Returns the views joined along an axis; only one of their files at a time is mapped into memory."""
    whole, start = np.empty(0), 0
    for view in views:
        whole = whole if start else np.empty(shape, view.dtype)
        np.moveaxis(whole, axis, 0)[start : start + view.shape[axis]] = np.moveaxis(view, axis, 0)
        start += view.shape[axis]
        del view  # before the next is mapped
    assert start == shape[axis], (start, shape)
    return whole


def shard_shapes(shard: TorchFile) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a file's tensors, without the frequencies, which are not weights."""
    return {name: shape for name, shape in shard.shapes().items() if name != "rope.freqs"}


def check_shards(folder: pathlib.Path, shards: list[TorchFile], dim: int) -> None:
    """Raises ValueError if a file is missing, or of another model."""
    rows = shards[0].shapes().get("layers.0.attention.wq.weight", (dim,))[0]
    count = max(dim // rows, 1)
    for number in range(max(count, len(shards))):
        path = folder / f"consolidated.{number:02}.pth"
        if not path.exists():
            raise ValueError(f"{path} is missing: the model is in {count} files: {COPY_AGAIN}")
    if len(shards) != count:
        raise ValueError(f"{folder} has {len(shards)} consolidated.*.pth files, but the model is in {count}")
    for shard in shards:
        if shard_shapes(shard) != shard_shapes(shards[0]):
            raise ValueError(f"{shard.path} does not hold the same tensors as {shards[0].path}: {COPY_AGAIN}")


def meta_trained_len(params: dict[str, Any]) -> int:
    """Returns the trained length, which no file has, from other settings that differ between the releases."""
    if params.get("use_scaled_rope"):
        return 131_072
    if params.get("rope_theta", 10_000.0) != 10_000.0:
        return 16_384 if params["rope_theta"] == 1e6 else 8192  # Code Llama; Llama 3
    return 2048 if params.get("norm_eps") == 1e-6 else 4096  # LLaMA-1; LLaMA-2


def rope_scaling(params: dict[str, Any]) -> dict[str, Any] | None:
    """Returns Hugging Face's rope_scaling; Llama 3.1's constants are in its code only."""
    if not params.get("use_scaled_rope"):
        return None
    factor = 32.0 if (params["dim"], params["n_layers"]) in LLAMA_32 else 8.0
    return {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
