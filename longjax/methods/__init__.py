"""Context-extension methods, one small file each; method.py is the interface. May import attention and root files.

A method in `METHODS` gets flags, an experiment, training, evaluators and the laws of the tests.
"""

from collections.abc import Callable

from longjax.methods.alibi import alibi, nope
from longjax.methods.clex import clex, clex_rk4_peer
from longjax.methods.dca import dca
from longjax.methods.ds_bf16 import ds_bf16
from longjax.methods.identity import identified, method_identity
from longjax.methods.landmark import landmark
from longjax.methods.llama3 import llama3
from longjax.methods.lm_infinite import lm_infinite
from longjax.methods.lm_infinite_topk import lm_infinite_topk
from longjax.methods.longlora import longlora, longlora_sft
from longjax.methods.longrope import longrope
from longjax.methods.lora import with_lora
from longjax.methods.method import Method, base, compose, continued
from longjax.methods.ntk import ntk_32k, ntk_64k, ntk_64k_code, ntk_frozen, ntk_static
from longjax.methods.pi import pi
from longjax.methods.rerope import leaky_rerope, rerope
from longjax.methods.self_extend import self_extend, self_extend_auto
from longjax.methods.self_extend_octaves import self_extend_octaves
from longjax.methods.sliding_window import sliding_window
from longjax.methods.streaming_llm import streaming_llm
from longjax.methods.theta import theta
from longjax.methods.yarn import dynamic_yarn, yarn

METHODS: dict[str, Callable[..., Method]] = {
    f.__name__: f
    for f in (
        base,
        continued,
        pi,
        ntk_static,
        ntk_frozen,
        ntk_32k,
        ntk_64k,
        ntk_64k_code,
        yarn,
        dynamic_yarn,
        clex,
        clex_rk4_peer,
        longrope,
        llama3,
        theta,
        alibi,
        nope,
        lm_infinite,
        lm_infinite_topk,
        streaming_llm,
        sliding_window,
        self_extend,
        self_extend_auto,
        self_extend_octaves,
        rerope,
        leaky_rerope,
        dca,
        longlora,
        longlora_sft,
        landmark,
    )
}

__all__ = [
    "METHODS",
    "Method",
    "alibi",
    "base",
    "clex",
    "clex_rk4_peer",
    "compose",
    "continued",
    "dca",
    "ds_bf16",
    "dynamic_yarn",
    "identified",
    "landmark",
    "leaky_rerope",
    "llama3",
    "lm_infinite",
    "lm_infinite_topk",
    "longlora",
    "longlora_sft",
    "longrope",
    "method_identity",
    "nope",
    "ntk_32k",
    "ntk_64k",
    "ntk_64k_code",
    "ntk_frozen",
    "ntk_static",
    "pi",
    "rerope",
    "self_extend",
    "self_extend_auto",
    "self_extend_octaves",
    "sliding_window",
    "streaming_llm",
    "theta",
    "with_lora",
    "yarn",
]
