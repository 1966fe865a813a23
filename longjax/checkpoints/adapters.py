"""Adapters that PEFT wrote, merged into their base one tensor at a time: W + scale * B A (arXiv:2106.09685, eq. 3).

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
from longjax.checkpoints.torch_files import AGAIN, TorchFile

CONFIG, TRAINED = "adapter_config.json", "trainable_params.bin"
PREFIX = "base_model.model."
FACTOR = re.compile(r"(.*)\.lora_(embedding_)?([AB])(\.default)?(\.weight)?")
SAVED = re.compile(r"(.*?)(\.modules_to_save|\.base_layer)?(\.default)?(\.weight|\.bias)")
EMBEDS, HEAD = ("embed_tokens.weight", "wte.weight"), "lm_head.weight"
VOCAB = (*EMBEDS, HEAD, "lm_head.bias")  # grow with the vocabulary
T = TypeVar("T")
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # others change the base's weights as well
UNKNOWN = (
    "use_dora", "lora_bias", "fan_in_fan_out", "layer_replication", "use_qalora", "use_bdlora", "kasa_config",
    "alora_invocation_tokens", "trainable_token_indices",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Factors:
    """One adapter: W + scale * B A; an embedding is stored the other way around."""

    a: str
    b: str
    scale: float
    transposed: bool


class Merged:
    """A base with an adapter added in float32: a `Tensors` of the base's types, or of `dtype`.

    Raises ValueError naming what is missing or not supported.
    """

    def __init__(self, base: Tensors, folder: str | os.PathLike, dtype: np.dtype | None = None):
        folder = pathlib.Path(folder)
        self.base, self.dtype = base, dtype
        self.adapter = open_adapter(folder)
        config = read_config(folder / CONFIG)
        self.factors = self._in_base(factors_of(self.adapter.shapes(), config, folder))
        self.replaced = self._in_base(
            {saved_name(name): (self.adapter, name) for name in self.adapter.shapes() if not is_other(name)}
        )
        self.grown: dict[str, int] = {}
        self._keep_tied(folder)
        if (folder / TRAINED).exists():
            self._add_trained(TorchFile(folder / TRAINED))
        missing = (self.factors.keys() | self.replaced.keys()) - base.shapes().keys()
        if missing:
            raise ValueError(f"{folder} changes tensors that the base does not have: {', '.join(sorted(missing))}")
        self._check_shapes(folder)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self._shape(name, shape) for name, shape in self.base.shapes().items()}

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        x = self._before(name, rows)
        dtype = self.dtype or x.dtype
        if name in self.replaced:
            tensors, stored = self.replaced[name]
            x = tensors.read(stored, rows)
        if name in self.factors:
            x = x.astype(np.float32) + self._delta(self.factors[name], rows)
        return x.astype(dtype, copy=False)

    def _before(self, name: str, rows: slice) -> np.ndarray:
        """The base's rows; of what is replaced the first one, which tells the type."""
        if name in self.replaced:
            return self.base.read(name, slice(0, 1))
        if name in self.grown:
            return with_mean(self.base.read(name), self.grown[name])[rows]
        return self.base.read(name, rows)

    def _shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if name in self.replaced:
            tensors, stored = self.replaced[name]
            return tensors.shapes()[stored]
        return (shape[0] + self.grown.get(name, 0), *shape[1:])

    def _delta(self, factors: Factors, rows: slice) -> np.ndarray:
        a, b = (self.adapter.read(name).astype(np.float32) for name in (factors.a, factors.b))
        product = a.T[rows] @ b.T if factors.transposed else b[rows] @ a
        return np.float32(factors.scale) * product

    def _in_base(self, changes: dict[str, T]) -> dict[str, T]:
        """By the base's names, which may be without the prefix that PEFT saw."""
        names = self.base.shapes()
        short = {name: name.partition(".")[2] for name in changes}
        return {short[n] if n not in names and short[n] in names else n: change for n, change in changes.items()}

    def _keep_tied(self, folder: pathlib.Path) -> None:
        """Where the base has no head of its own, PEFT makes one unless it was told to tie it again."""
        saved = [name for name, (_, stored) in self.replaced.items() if ".base_layer." not in stored]
        if HEAD not in self.base.shapes() and any(name.endswith(EMBEDS) for name in saved):
            if HEAD not in self.replaced:
                raise ValueError(f"{folder} unties the embedding, which it replaces, from the head: merge it with PEFT")
            del self.replaced[HEAD]

    def _add_trained(self, trained: Tensors) -> None:
        """LongLoRA adds a [PAD] token: as many rows as its embedding has more, everywhere."""
        shapes = self.base.shapes()
        for name, shape in trained.shapes().items():
            if ignored(name):
                continue
            self.replaced |= self._in_base({name.removeprefix(PREFIX): (trained, name)})
            if name.endswith(VOCAB) and name in shapes:
                more = shape[0] - shapes[name][0]
                self.grown |= {other: more for other in shapes if more > 0 and other.endswith(VOCAB)}

    def _check_shapes(self, folder: pathlib.Path) -> None:
        for name, factors in self.factors.items():
            (rank, inputs), (outputs, rank_b) = (self.adapter.shapes()[x] for x in (factors.a, factors.b))
            shape = (inputs, outputs) if factors.transposed else (outputs, inputs)
            if rank != rank_b or shape != self._shape(name, self.base.shapes()[name]):
                raise ValueError(f"{folder}: the adapter of {name} is of shape {shape}, not {self.base.shapes()[name]}")


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Raises ValueError if this is no adapter that is a sum of products."""
    try:
        config = dict(json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is missing or damaged: {AGAIN}") from error
    if config.get("peft_type", "LORA") != "LORA" or config.get("bias", "none") != "none":
        raise ValueError(f"{path}: only peft_type LORA with bias none can be merged")
    for key in UNKNOWN:
        if config.get(key):
            raise ValueError(f"{path}: {key}={config[key]!r} is not supported; merge the adapter with PEFT")
    if config.get("init_lora_weights", True) not in PLAIN_STARTS:
        raise ValueError(f"{path}: init_lora_weights={config['init_lora_weights']!r} changes the base; merge with PEFT")
    return config


def open_adapter(folder: pathlib.Path) -> Tensors:
    if (folder / "adapter_model.safetensors").exists():
        return SafetensorsFolder(folder)
    return TorchFile(folder / "adapter_model.bin")


def factors_of(names: dict[str, Any], config: dict[str, Any], folder: pathlib.Path) -> dict[str, Factors]:
    """-> the adapters by the name of the tensor that they change."""
    pairs: dict[str, dict[str, str]] = {}
    embeddings: set[str] = set()
    for name in names:
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
                pair["A"], pair["B"], scale(module, names[pair["A"]][0], config), module in embeddings
            )
            for module, pair in pairs.items()
        }
    except KeyError as missing:
        raise ValueError(f"{folder}: the adapter lacks {missing}: {AGAIN}") from missing


def scale(module: str, rank: int, config: dict[str, Any]) -> float:
    """alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732). Patterns are regular expressions of name ends."""
    patterns = config.get("alpha_pattern") or {}
    alphas = (alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module))
    return next(alphas, config["lora_alpha"]) / (rank**0.5 if config.get("use_rslora") else rank)


def is_other(name: str) -> bool:
    """Whether the tensor does not replace one of the base: a factor, or a copy of the base's own."""
    return bool(FACTOR.fullmatch(name)) or ".original_module." in name or ignored(name)


def saved_name(name: str) -> str:
    """base_model.model.lm_head.modules_to_save.default.weight (older PEFT) -> lm_head.weight."""
    bare = name.removeprefix(PREFIX)
    match = SAVED.fullmatch(bare)
    return match[1] + match[4] if match else bare


def with_mean(x: np.ndarray, more: int) -> np.ndarray:
    """`more` rows are added, each the mean of the others."""
    mean = x.mean(0, dtype=np.float64, keepdims=True).astype(x.dtype)
    return np.concatenate([x, np.repeat(mean, more, 0)])
