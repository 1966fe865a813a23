"""Long-context extension of LLaMA-family models in JAX: `longjax.load(folder, method)`. Importing it starts no JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longjax.api import LanguageModel, load
    from longjax.config import ModelConfig
    from longjax.inference.texts import Loglikelihood
    from longjax.methods import METHODS, Method
    from longjax.model.llama import Llama
    from longjax.training.recipe import Recipe
    from longjax.training.train_step import TrainState, init_train_state, train_step

__version__ = "0.2.0.dev0"
__all__ = [
    "METHODS",
    "LanguageModel",
    "Llama",
    "Loglikelihood",
    "Method",
    "ModelConfig",
    "Recipe",
    "TrainState",
    "init_train_state",
    "load",
    "train_step",
]
_MODULES = {
    "longjax.api": ("LanguageModel", "load"),
    "longjax.config": ("ModelConfig",),
    "longjax.inference.texts": ("Loglikelihood",),
    "longjax.methods": ("METHODS", "Method"),
    "longjax.model.llama": ("Llama",),
    "longjax.training.recipe": ("Recipe",),
    "longjax.training.train_step": ("TrainState", "init_train_state", "train_step"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'longjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
