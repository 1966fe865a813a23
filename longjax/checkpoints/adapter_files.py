"""Reads the files of LoRA adapters: settings, factors, and the names of what they change.

PEFT's directory is adapter_config.json and adapter_model.safetensors (or .bin).
"""

import dataclasses
import pathlib
import re
from typing import Any

from longjax.checkpoints.config_values import is_number
from longjax.checkpoints.families import ignored
from longjax.checkpoints.json_files import first_names
from longjax.checkpoints.safetensors import SafetensorsFiles
from longjax.checkpoints.tensor_source import Tensors
from longjax.checkpoints.torch_files import COPY_AGAIN, TorchFile
from longjax.files import read_object

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
FACTOR = re.compile(r"(.*)\.lora_(embedding_)?([AB])(\.default)?(\.weight)?")
SAVED = re.compile(r"(.*?)(\.modules_to_save|\.base_layer)?(\.default)?(\.weight|\.bias)")
PLAIN_INITS = (True, False, None, "gaussian", "orthogonal", "eva")  # others change the base's weights as well
UNSUPPORTED = (
    "use_dora", "lora_bias", "fan_in_fan_out", "layer_replication", "use_qalora", "use_bdlora", "kasa_config",
    "alora_invocation_tokens", "trainable_token_indices", "target_parameters",
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


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Reads adapter_config.json. Raises ValueError if it is damaged, or of an adapter that cannot be merged."""
    config = read_object(path, COPY_AGAIN)
    check_types(path, config)
    if config.get("peft_type", "LORA") != "LORA" or config.get("bias", "none") != "none":
        raise ValueError(f"{path}: only peft_type LORA with bias none can be merged")
    for key in UNSUPPORTED:
        if config.get(key):
            raise ValueError(f"{path}: {key}={config[key]!r} is not supported; merge the adapter with PEFT")
    if config.get("init_lora_weights", True) not in PLAIN_INITS:
        raise ValueError(f"{path}: init_lora_weights={config['init_lora_weights']!r} changes the base; merge with PEFT")
    return config


def check_types(path: pathlib.Path, config: dict[str, Any]) -> None:
    """Raises ValueError if a value of adapter_config.json that is read is of another type than PEFT writes."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(is_number(alpha) for alpha in patterns.values()):
        raise ValueError(f"{path}: alpha_pattern={patterns!r} must be numbers by module: {COPY_AGAIN}")
    if not is_number(config.get("lora_alpha", 1)):
        raise ValueError(f"{path}: lora_alpha={config['lora_alpha']!r} must be a number: {COPY_AGAIN}")
    for key in ("target_modules", "modules_to_save"):
        names = config.get(key)
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (names is None or isinstance(names, str) or listed):
            raise ValueError(f"{path}: {key}={names!r} must be a list of names: {COPY_AGAIN}")
    texts = [x for x in (*patterns, config.get("target_modules")) if isinstance(x, str)]
    for pattern in texts:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{path}: {pattern!r} is not a regular expression ({error}): {COPY_AGAIN}") from error


def open_adapter(folder: pathlib.Path) -> Tensors:
    """Opens the tensors of an adapter. Raises ValueError if they are missing, damaged or empty."""
    path = folder / "adapter_model.safetensors"
    adapter = SafetensorsFiles([path]) if path.exists() else TorchFile(folder / "adapter_model.bin")
    empty = [name for name, shape in adapter.shapes().items() if 0 in shape]
    if empty or not adapter.shapes():
        raise ValueError(
            f"{folder} holds no values of {first_names(empty) or 'any tensor'}: save the adapter again (with ZeRO-3, "
            "gather its parameters first)"
        )
    return adapter


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


def targets(config: dict[str, Any], weight: str) -> bool:
    """Returns whether the configuration trains LoRA factors of a weight; not said for settings that are rare."""
    modules = config.get("target_modules")
    if config.get("layers_to_transform") is not None or config.get("exclude_modules"):
        return False
    if isinstance(modules, list):
        return f".{weight}".endswith(tuple(f".{module}.weight" for module in modules))
    if modules == "all-linear" or not isinstance(modules, str):
        return False
    return bool(re.fullmatch(modules, weight.removesuffix(".weight")))


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
