"""Golden check of approximate attention inside whole tiny models: logits, losses, gradients, chats, adapters."""

import dataclasses
import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.approx_case import Case, Computed
from golden_checks.approx_methods import method_of, trained_len
from longjax.attention.core import TokenPositions
from longjax.attention.rope import Rope
from longjax.checkpoints.param_mapping import from_hf, to_hf
from longjax.config import ModelConfig
from longjax.methods.longlora import lora_embedding_norm
from longjax.methods.lora import Lora, LoraInit, lora_param_names, merge
from longjax.methods.method import Method, base, no_params, unchanged_weights
from longjax.methods.sliding_window import sliding_window
from longjax.methods.streaming_llm import evict
from longjax.model.llama import Llama, logits

LORA = re.compile(r"model\.layers\.(\d+)\.self_attn\.(\w)_proj\.lora_([AB])\.weight")


def compute(case: Case) -> Computed:
    cfg, params = weights(case)
    if any(LORA.fullmatch(name) for name in case.arrays):
        return adapters(case, cfg, params)
    method = case.meta["method"]
    if method == "s2_attn":
        return shifted_groups(case, cfg, params)
    if method == "streaming_llm evict_for_space":
        return chat(case, cfg, params)
    return inference(case, cfg, params)


def inputs(case: Case) -> set[str]:
    return {"input_ids"} | {name for name in case.arrays if LORA.fullmatch(name)}


def weights(case: Case) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the model that `meta.weights` names, with the shapes of its tensors."""
    file = Case.read(case.path.parent / f"{case.meta['weights']}.npz")
    meta, state = file.meta, file.arrays
    phi = "model.final_layernorm.weight" in state
    vocab, dim = state["model.embed_tokens.weight"].shape
    width = dim // meta["heads"]
    cfg = ModelConfig(
        vocab=vocab, dim=dim, layers=meta["layers"], heads=meta["heads"],
        kv_heads=state["model.layers.0.self_attn.k_proj.weight"].shape[0] // width, ffn=meta["inter"],
        rope_base=meta["rope_theta"], rotary_fraction=meta.get("partial_rotary_factor", 1.0),
        norm_eps=meta["layer_norm_eps"] if phi else meta["rms_eps"], dtype="float32",
        trained_len=trained_len(case.meta, ModelConfig.trained_len),
    )  # fmt: skip
    if phi:
        biases = ("q", "k", "v", "o", "up", "down", "norm", "unembed")
        cfg = dataclasses.replace(cfg, norm="layer", act="gelu_tanh", gated=False, parallel=True, biases=biases)
    return cfg, from_hf(state, cfg) | {"method": {}}


@functools.partial(jax.jit, static_argnames=("model", "length"))
def forward(model: Llama, params: Any, ids_BT: Any, index_BT: Any, length: int, cache: Any = None):
    """Return (logits_BTV, cache)."""
    hidden_BTD, cache = model.apply({"params": params}, ids_BT, TokenPositions.at(index_BT), length, cache)
    return logits(params, hidden_BTD), cache


def run(model: Llama, params: Any, ids_BT: np.ndarray, cuts: list[int] | None = None) -> np.ndarray:
    """Return logits_BTV of one pass, or of pieces through the cache."""
    batch, length = ids_BT.shape
    index_BT = np.broadcast_to(np.arange(length, dtype=np.int32), ids_BT.shape)
    if cuts is None:
        return np.asarray(forward(model, params, ids_BT, index_BT, length)[0])
    cache, outs = model.init_cache(batch, length, length), []
    for a, b in itertools.pairwise(cuts):
        out, cache = forward(model, params, ids_BT[:, a:b], index_BT[:, a:b], length, cache)
        outs.append(np.asarray(out))
    return np.concatenate(outs, axis=1)


def ids(case: Case) -> np.ndarray:
    return case.arrays["input_ids"].astype(np.int32)


def inference(case: Case, cfg: ModelConfig, params: Any) -> Computed:
    """Compute one pass, then the last tokens one by one."""
    ids_BT = ids(case)
    length = ids_BT.shape[1]
    model = Llama(cfg, method_of(case.meta, length))
    prompt = case.meta.get("prefill", length // 2)
    steps = run(model, params, ids_BT, [0, *range(prompt, length + 1)])
    yield "logits", "one pass", run(model, params, ids_BT)
    yield "logits", "cache", steps
    if "prefill" in case.meta:
        yield "logits_decode", "cache", steps[:, prompt:]
    if "logits_plain" in case.arrays:
        yield "logits_plain", "one pass", run(Llama(cfg, base()), params, ids_BT)


def chat(case: Case, cfg: ModelConfig, params: Any) -> Computed:
    """StreamingLLM in turns: tokens are evicted before each turn, in which attention is dense."""
    ids_BT, sinks, recent = ids(case), case.meta["start"], case.meta["recent"]
    turns = case.meta["turns(prompt,gen)"]
    model = Llama(cfg, sliding_window(sinks + max(recent, *(sum(turn) for turn in turns))))
    batch, length = ids_BT.shape
    cache, outs, begin = model.init_cache(batch, length, length), [], 0
    for prompt, new in turns:
        rope = model.method.rope(cfg, length, {}, None)
        cache = {name: with_room(store, prompt + new, sinks, recent, rope) for name, store in cache.items()}
        for size in [prompt] + [1] * new:
            index_BT = np.broadcast_to(np.arange(begin, begin + size, dtype=np.int32), (batch, size))
            out, cache = forward(model, params, ids_BT[:, begin : begin + size], index_BT, length, cache)
            outs.append(np.asarray(out))
            begin += size
    yield "logits", "cache", np.concatenate(outs, axis=1)


@functools.partial(jax.jit, static_argnames=("coming", "sinks", "recent"))
def with_room(store: Any, coming: int, sinks: int, recent: int, rope: Rope) -> Any:
    return jax.vmap(lambda layer: evict(layer, coming, sinks, recent, rope))(store)


@functools.partial(jax.jit, static_argnames="model")
def loss_and_gradients(model: Llama, params: Any, ids_BT: Any):
    """Mean cross entropy of the next token."""

    def loss(params):
        hidden_BTD, _ = model.apply({"params": params}, ids_BT, TokenPositions.whole(*ids_BT.shape), ids_BT.shape[1])
        log_BTV = jax.nn.log_softmax(logits(params, hidden_BTD)[:, :-1])
        return -jnp.mean(jnp.take_along_axis(log_BTV, ids_BT[:, 1:, None], axis=2))

    return jax.value_and_grad(loss)(params)


def shifted_groups(case: Case, cfg: ModelConfig, params: Any) -> Computed:
    """Training in groups with every weight trained; the same model at inference attends to all."""
    ids_BT = ids(case)
    method = dataclasses.replace(method_of(case.meta, ids_BT.shape[1]), init_params=no_params, adapt=unchanged_weights)
    train, full = (Llama(cfg, method, train=train) for train in (True, False))
    loss, grads = loss_and_gradients(train, params, ids_BT)
    yield "loss", "train", loss
    yield "logits", "train", run(train, params, ids_BT)
    for name, gradient in to_hf(jax.device_get(grads), cfg).items():
        yield f"grad.{name}", "train", gradient
    yield "logits_full_attention", "one pass", run(full, params, ids_BT)
    yield "loss_full_attention", "one pass", loss_and_gradients(full, params, ids_BT)[0]


def adapters(case: Case, cfg: ModelConfig, params: Any) -> Computed:
    """LoRA: beside the weights, merged into them, and the gradients of exactly what LongLoRA trains."""
    names = tuple(sorted({match[2] for match in map(LORA.fullmatch, case.arrays) if match}))
    lora, ids_BT = Lora(case.meta["r"], case.meta["alpha"], names), ids(case)
    model = Llama(cfg, Method(init_params=LoraInit(lora), adapt=lora))
    adapted = params | {"method": {"layers": from_peft(case, cfg, names)}}
    merged = merge(adapted, lora)
    loss, grads = loss_and_gradients(model, adapted, ids_BT)
    yield "loss", "adapters", loss
    yield "logits", "adapters", run(model, adapted, ids_BT)
    yield "logits_merged", "merged", run(Llama(cfg), merged, ids_BT)
    yield "merged_q0", "merged", to_hf(merged, cfg)["model.layers.0.self_attn.q_proj.weight"]
    grads = jax.device_get(grads)
    method = grads.pop("method")
    trained = to_hf({name: np.full_like(g, lora_embedding_norm(name)) for name, g in grads.items()}, cfg)
    for name, gradient in to_hf(grads, cfg).items():
        if trained[name].all():
            yield f"grad.{name}", "adapters", gradient
    for name, gradient in to_peft(method["layers"], names).items():
        yield f"grad.{name}", "adapters", gradient


def from_peft(case: Case, cfg: ModelConfig, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return our stacked factors; PEFT's are [rank, inputs] and [outputs, rank]."""
    size = {"D": cfg.dim, "N": cfg.heads, "K": cfg.kv_heads, "H": cfg.head_dim, "F": cfg.ffn, "R": case.meta["r"]}
    layers = {}
    for name in names:
        for ours, letter in zip(lora_param_names(name), "AB", strict=True):
            shape = [size[axis] for axis in ours.rsplit("_", 1)[1]]
            theirs = [f"model.layers.{i}.self_attn.{name}_proj.lora_{letter}.weight" for i in range(cfg.layers)]
            layers[ours] = np.stack([case.arrays[x].T.reshape(shape) for x in theirs])
    return layers


def to_peft(layers: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    state = {}
    for name in names:
        for ours, letter in zip(lora_param_names(name), "AB", strict=True):
            for i, x in enumerate(layers[ours]):
                flat = x.reshape(-1, x.shape[-1]) if letter == "A" else x.reshape(x.shape[0], -1)
                state[f"model.layers.{i}.self_attn.{name}_proj.lora_{letter}.weight"] = flat.T
    return state
