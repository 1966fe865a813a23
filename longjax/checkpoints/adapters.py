"""Merges LoRA adapters of PEFT into their base, one tensor at a time: W + scale * B A (arXiv:2106.09685, eq. 3).

PEFT's directory is adapter_config.json and adapter_model.safetensors (or .bin); LongLoRA's release
(arXiv:2309.12307) has trainable_params.bin beside it, with embedding and norms that were trained whole.
"""

import dataclasses
import json
import os
import pathlib
import re
from typing import Any, TypeVar

import numpy as np

from longjax.checkpoints.families import ignored
from longjax.checkpoints.safetensors import SafetensorsFolder
from longjax.checkpoints.tensor_source import Tensors
from longjax.checkpoints.torch_files import COPY_AGAIN, TorchFile

CONFIG, TRAINED = "adapter_config.json", "trainable_params.bin"
PREFIX = "base_model.model."
FACTOR = re.compile(r"(.*)\.lora_(embedding_)?([AB])(\.default)?(\.weight)?")
SAVED = re.compile(r"(.*?)(\.modules_to_save|\.base_layer)?(\.default)?(\.weight|\.bias)")
EMBEDS, HEAD = ("embed_tokens.weight", "wte.weight"), "lm_head.weight"
VOCAB = (*EMBEDS, HEAD, "lm_head.bias")  # tensors with a row a token
T = TypeVar("T")
PLAIN_INITS = (True, False, None, "gaussian", "orthogonal", "eva")  # others change the base's weights as well
UNSUPPORTED = (
    "use_dora", "lora_bias", "fan_in_fan_out", "layer_replication", "use_qalora", "use_bdlora", "kasa_config",
    "alora_invocation_tokens", "trainable_token_indices",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Factors:
    """The factors of one weight: W + scale * B A.

    Attributes:
      a, b: names of the tensors A and B.
      scale: of the product.
      transposed: whether the weight is an embedding, whose product is transposed.

    """

    a: str
    b: str
    scale: float
    transposed: bool


class MergedAdapter:
    """A base with an adapter merged in float32: a `Tensors` of the base's types, or of `dtype`.

    Raises ValueError naming what is missing or not supported.
    """

    def __init__(self, base: Tensors, folder: str | os.PathLike, dtype: np.dtype | None = None):
        folder = pathlib.Path(folder)
        self.base, self.dtype = base, dtype
        self.adapter = open_adapter(folder)
        config = read_config(folder / CONFIG)
        self.factors = self._by_base_name(adapter_factors(self.adapter.shapes(), config, folder))
        self.replaced = self._by_base_name(
            {saved_name(name): (self.adapter, name) for name in self.adapter.shapes() if not is_no_replacement(name)}
        )
        self.new_rows: dict[str, int] = {}
        self._drop_tied_head(folder)
        if (folder / TRAINED).exists():
            self._replace_trained(TorchFile(folder / TRAINED))
        missing = (self.factors.keys() | self.replaced.keys()) - base.shapes().keys()
        if missing:
            raise ValueError(f"{folder} changes tensors that the base does not have: {', '.join(sorted(missing))}")
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

    def _drop_tied_head(self, folder: pathlib.Path) -> None:
        """Drops the head that PEFT saves with a replaced embedding where the base's head is tied to it."""
        saved = [name for name, (_, stored) in self.replaced.items() if ".base_layer." not in stored]
        if HEAD not in self.base.shapes() and any(name.endswith(EMBEDS) for name in saved):
            if HEAD not in self.replaced:
                raise ValueError(f"{folder} unties the embedding, which it replaces, from the head: merge it with PEFT")
            del self.replaced[HEAD]

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


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Reads adapter_config.json. Raises ValueError if it is damaged, or of an adapter that cannot be merged."""
    try:
        config = dict(json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is missing or damaged: {COPY_AGAIN}") from error
    if config.get("peft_type", "LORA") != "LORA" or config.get("bias", "none") != "none":
        raise ValueError(f"{path}: only peft_type LORA with bias none can be merged")
    for key in UNSUPPORTED:
        if config.get(key):
            raise ValueError(f"{path}: {key}={config[key]!r} is not supported; merge the adapter with PEFT")
    if config.get("init_lora_weights", True) not in PLAIN_INITS:
        raise ValueError(f"{path}: init_lora_weights={config['init_lora_weights']!r} changes the base; merge with PEFT")
    return config


def open_adapter(folder: pathlib.Path) -> Tensors:
    """Opens the tensors of an adapter. Raises ValueError if they are missing or damaged."""
    if (folder / "adapter_model.safetensors").exists():
        return SafetensorsFolder(folder)
    return TorchFile(folder / "adapter_model.bin")


def adapter_factors(
    shapes: dict[str, tuple[int, ...]], config: dict[str, Any], folder: pathlib.Path
) -> dict[str, Factors]:
    """Returns the factors by the name of the weight that they change. Raises ValueError naming one that is missing."""
    pairs: dict[str, dict[str, str]] = {}
    embeddings: set[str] = set()
    for name in shapes:
        match = FACTOR.fullmatch(name)
        if match:
            module, embedding, which = match[1].removeprefix(PREFIX), match[2], match[3]
            pairs.setdefault(module, {})[which] = name
            embeddings |= {module} if embedding else set()
        elif "lora_" in name:
            raise ValueError(f"{folder}: {name} is not supported (DoRA, perhaps); merge the adapter with PEFT")
    try:
        return {
            f"{module}.weight": Factors(
                pair["A"], pair["B"], lora_scale(module, shapes[pair["A"]][0], config), module in embeddings
            )
            for module, pair in pairs.items()
        }
    except KeyError as missing:
        raise ValueError(f"{folder}: the adapter lacks {missing}: {COPY_AGAIN}") from missing


def lora_scale(module: str, rank: int, config: dict[str, Any]) -> float:
    """Returns alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv:2312.03732).

    `alpha_pattern` has alphas by regular expressions of the ends of modules' names.
    """
    patterns = config.get("alpha_pattern") or {}
    alphas = (alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module))
    return next(alphas, config["lora_alpha"]) / (rank**0.5 if config.get("use_rslora") else rank)


def is_no_replacement(name: str) -> bool:
    """Returns whether an adapter's tensor replaces none of the base: a factor, a buffer, a copy of the base's own."""
    return bool(FACTOR.fullmatch(name)) or ".original_module." in name or ignored(name)


def saved_name(name: str) -> str:
    """Returns the base's name: lm_head.weight for base_model.model.lm_head.modules_to_save.default.weight."""
    bare = name.removeprefix(PREFIX)
    match = SAVED.fullmatch(bare)
    return match[1] + match[4] if match else bare


def append_mean_rows(x: np.ndarray, count: int) -> np.ndarray:
    """Returns the array with `count` more rows, each the mean of the others."""
    mean = x.mean(0, dtype=np.float64, keepdims=True).astype(x.dtype)
    return np.concatenate([x, np.repeat(mean, count, 0)])
