"""The longjax method that a golden file's meta describes."""

import dataclasses
from collections.abc import Callable
from typing import Any

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch, Constant
from longjax.attention.intervals import BeyondWindow, SlidingWindow
from longjax.config import ModelConfig
from longjax.methods.dca import dca
from longjax.methods.lm_infinite import lm_infinite
from longjax.methods.longlora import longlora, longlora_sft
from longjax.methods.method import Method, compose
from longjax.methods.rerope import leaky_rerope, rerope
from longjax.methods.self_extend import SelfExtend
from longjax.methods.sliding_window import sliding_window
from longjax.methods.streaming_llm import streaming_llm
from longjax.methods.yarn import yarn


def trained_len(meta: dict[str, Any], otherwise: int) -> int:
    known = meta.get("yarn", {}).get("original_max"), meta.get("pretraining_length"), meta.get("training_length")
    return next(filter(None, known), otherwise)


def method_of(meta: dict[str, Any], length: int) -> Method:
    """Return the longjax method that a file's meta describes."""
    name, window = meta["method"], meta.get("window", 0)
    if name == "lm_infinite (clamp = local-1)":
        return lm_infinite(meta["n_local"], meta["n_init"], meta["n_local"] - 1)
    if name == "streaming_llm" and "n_local" in meta:
        return Method(attention=SinksAtTheEnd(meta["n_init"], meta["n_local"]))
    if name == "self_extend + yarn":
        return compose(yarn(meta["yarn"]["scale"], attention_factor=meta["mscale"]), self_extend_of(meta, "floor"))
    if name == "s2_attn":
        factor, size = meta.get("rope_linear_factor", 1.0), meta["group_size"]
        fixed = length % size or ("group_size_ratio" not in meta and "valid_len" in meta)
        return longlora_sft(factor, size) if fixed else longlora(factor, length // size)
    makers: dict[str, Callable[[], Method]] = {
        "lm_infinite": lambda: lm_infinite(meta["local"], meta["n_global"], meta.get("clamp")),
        "streaming_llm": lambda: streaming_llm(meta["start"], meta["recent"]),
        "sliding_window": lambda: sliding_window(window),
        "self_extend": lambda: self_extend_of(meta, "floor"),
        "rerope": lambda: rerope(window, "training_length" in meta),
        "leaky_rerope": lambda: leaky_rerope(window, meta["scaling_factor"], "training_length" in meta),
        "dca": lambda: dca(meta["chunk_size"], meta["local_window"], meta.get("mscale") != 1.0),
    }
    return makers[name]()


def self_extend_of(meta: dict[str, Any], shift: str) -> Method:
    """Return Self-Extend without its factory, which raises for windows that are no multiple of the group."""
    window, group = meta["window"], meta["group"]
    by = window / group if shift == "true_division" else window // group
    return Method(attention=SelfExtend(window, group, window - by, max(meta.get("scale_base", 0.0), 0.0)))


@dataclasses.dataclass(frozen=True)
class SinksAtTheEnd:
    """InfLLM's StreamingLLM: sinks are before a full window even while the window is not full yet."""

    sinks: int
    window: int

    def __call__(self, cfg: ModelConfig, length: int) -> BranchedAttention:
        far = Branch(BeyondWindow(self.window, self.sinks), Constant(self.window - 1 + self.sinks))
        return BranchedAttention((Branch(SlidingWindow(self.window)), far))
