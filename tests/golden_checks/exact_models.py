"""Golden checks of whole models: logits, decoding through the cache, changing lengths, a training step of CLEX."""

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from golden_checks.exact_case import Case, Check
from golden_checks.exact_clex import GRADIENT, drawn
from golden_checks.exact_tables import LITERALS, trained_for
from golden_checks.rerotate import rerotate
from longjax.attention.core import TokenPositions
from longjax.attention.rope import Rope
from longjax.checkpoints.config_from_hf import method_of, model_of
from longjax.checkpoints.param_mapping import from_hf, to_hf
from longjax.config import ModelConfig
from longjax.inference.rope_length import LengthPolicy, lengths_used, stateless, sticky, sticky_with_reset
from longjax.methods.clex import ClexRope
from longjax.methods.method import Method
from longjax.methods.ntk import NtkRope, ntk_32k
from longjax.model.llama import Llama, logits

# Peers round frequencies in float32: one unit in the last place turns place p by p units, which moves the logits of
# 1024 tokens by up to 3.4e-4 (measured). CLEX's peer solves in float32 too, and is off by a hundred units.
LOGITS, LONG, SOLVER_NOISE, LOSS = 3e-4, 512, 2e-6, 1e-4


def given_rope(cfg: ModelConfig, length: int, method_params: dict[str, Any], key: jax.Array | None) -> Rope:
    """Return a RoPE that is passed in as parameters, so that one compiled model serves all methods of a length."""
    return Rope(
        method_params["inv_freq_R"],
        method_params["scale"],
        method_params["query_scale"],
        position_BT=method_params["position_BT"],
    )


def no_params(key: jax.Array, cfg: ModelConfig) -> dict[str, Any]:
    return {}


GIVEN_ROPE = Method(rope=given_rope, init_params=no_params)


class Subject(NamedTuple):
    """The model and the method of a case."""

    cfg: ModelConfig
    method: Method
    params: dict[str, np.ndarray]
    method_params: dict[str, jax.Array]

    def rope(self, length: int) -> Rope:
        return self.method.rope(self.cfg, length, self.method_params, None)

    def allowed(self, length: int) -> float:
        noise = SOLVER_NOISE * length if isinstance(self.method.rope, ClexRope) else 0.0
        return LOGITS * max(1.0, length / LONG) + noise

    def with_rope(self, rope: Rope) -> dict[str, Any]:
        method_params = {
            "inv_freq_R": rope.inv_freq_R,
            "scale": jnp.float32(rope.scale),
            "position_BT": rope.position_BT,
        }
        return self.params | {"method": method_params | {"query_scale": jnp.float32(rope.query_scale)}}


@functools.partial(jax.jit, static_argnums=0)
def forward(cfg: ModelConfig, params: dict[str, Any], tokens_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (logits_BTV, mean loss of the next tokens)."""
    B, T = tokens_BT.shape
    hidden_BTD, _ = Llama(cfg, GIVEN_ROPE).apply({"params": params}, tokens_BT, TokenPositions.whole(B, T), T)
    logits_BTV = logits(params, hidden_BTD)
    return logits_BTV, losses(logits_BTV, tokens_BT)


def losses(logits_BTV: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits_BTV[:, :-1], tokens_BT[:, 1:]))


@functools.partial(jax.jit, static_argnums=0)
def step(cfg: ModelConfig, params: dict[str, Any], tokens_BT: jax.Array, start: jax.Array, cache: Any):
    """Run further tokens of a row; return (logits_BV of the last, cache)."""
    where = TokenPositions.at(start + jnp.arange(tokens_BT.shape[1], dtype=jnp.int32)[None])
    hidden_BTD, cache = Llama(cfg, GIVEN_ROPE).apply({"params": params}, tokens_BT, where, 1, cache)
    return logits(params, hidden_BTD[:, -1:])[:, 0], cache


@functools.cache
def checkpoint(folder, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}_weights.npz", allow_pickle=False) as file:
        return dict(file)


def subject(case: Case) -> Subject:
    """Return the folder's model of tiny_configs.json: the one of phi if the file's name has `phi`."""
    family = "phi" if "phi" in case.stem else "llama"
    given_rope = json.loads((case.folder / "tiny_configs.json").read_text())[f"tiny_{family}"]
    names = ("rope_scaling", "rope_parameters", "max_position_embeddings")
    config = given_rope | {"model_type": family} | {name: case.get(name) for name in names}
    config |= {"log_scale": logs_scale(case)}
    cfg = dataclasses.replace(model_of(config), dtype="float32")
    if "lceg" in case["peer"].lower() and "yarn" in case["peer"]:
        cfg = dataclasses.replace(cfg, rope_base=10_000.0)  # that file does not read rope_theta
    if "rotary_dim" in case.fields:
        assert cfg.rotary_dim == case["rotary_dim"]
    method, method_params = method_of(config), {}
    if any(name in case["peer"] for name in LITERALS) and config["rope_scaling"]["type"] == "dynamic":
        method = ntk_32k(trained_for(case), config["rope_scaling"]["factor"])
    if isinstance(method.rope, ClexRope):
        ode = checkpoint(case.folder, "tiny_phi_clex" if family == "phi" else "tiny_clex")
        method_params = {side: jnp.asarray(matching(ode, side)) for side in ("up_RP", "down_PR")}
    return Subject(cfg, method, from_hf(checkpoint(case.folder, f"tiny_{family}"), cfg), method_params)


def matching(ode: dict[str, np.ndarray], side: str) -> np.ndarray:
    (name,) = (name for name in ode if f"ode_{side.split('_')[0]}_proj" in name)
    return ode[name]


def logs_scale(case: Case) -> bool:
    """Whether the peer scales queries: only its flash attention does."""
    told = case.get("log_scale")
    return told is True or (told is None and "log_scale" in case["peer"])


def whole(case: Case) -> Iterator[Check]:
    """Check one pass over a sequence."""
    model, tokens_T = subject(case), case.array("input_ids")
    length = len(tokens_T)
    yield Check("seq_len", length, case["seq_len"], 0)
    rope = model.rope(length)
    if "q_multiplier" in case.fields:
        yield Check("q_multiplier", rope.query_scale, case["q_multiplier"], 1e-9)
    if "alpha" in case.fields and isinstance(model.method.rope, NtkRope):
        yield Check("alpha", model.method.rope.alpha(model.cfg, length), case["alpha"], 1e-9 * case["alpha"])
    if "t" in case.fields:
        yield Check("t", -(-length // model.cfg.trained_len), case["t"], 0)
    logits_BTV, loss = forward(model.cfg, model.with_rope(rope), tokens_T[None].astype(np.int32))
    yield Check("logits", logits_BTV[0, case.array("logit_positions")], case.array("logits"), model.allowed(length))
    yield Check("loss", loss, case.array("loss"), LOSS)


def growth_of(case: Case, model: Subject) -> LengthPolicy:
    if isinstance(model.method.rope, ClexRope):
        return stateless
    return sticky_with_reset if case["peer"].startswith("transformers==5") else sticky


def decode(case: Case) -> Iterator[Check]:
    """Check a prefill, then one token at a time, each call with the frequencies of its length, as the peers do."""
    model, tokens_BT = subject(case), case.array("input_ids")[None].astype(np.int32)
    prompt, total = case["prefill"], case["prefill"] + case["decode"]
    yield Check("input_ids", tokens_BT.shape[1], total, 0)
    used = list(lengths_used(growth_of(case, model), range(prompt, total + 1), model.cfg.trained_len))
    cache = Llama(model.cfg, GIVEN_ROPE).init_cache(1, total, total)
    rows, start, before = [], 0, None
    for end, length in zip(range(prompt, total + 1), used, strict=True):
        rope = model.rope(length)
        if before is not None and isinstance(model.method.rope, ClexRope):  # its cache holds unrotated keys
            cache = {name: rerotate(store, before, rope) for name, store in cache.items()}
        params, tokens = model.with_rope(rope), tokens_BT[:, start:end]
        row, cache = step(model.cfg, params, tokens, jnp.int32(start), cache)
        rows, start, before = [*rows, row[0]], end, rope
    yield Check("logits_incremental", np.stack(rows), case.array("logits_incremental"), model.allowed(total))
    logits_BTV, _ = forward(model.cfg, model.with_rope(model.rope(total)), tokens_BT)
    want = case.array("logits_full_forward")
    yield Check("logits_full_forward", logits_BTV[0, prompt - 1 :], want, model.allowed(total))


def several(case: Case) -> Iterator[Check]:
    """Check sequences of several lengths, by one module and by a new one for each."""
    model, lengths = subject(case), case["call_lengths"]
    used = lengths_used(growth_of(case, model), lengths, model.cfg.trained_len)
    for j, (length, sticky_length) in enumerate(zip(lengths, used, strict=True)):
        tokens_BT, at = case.array(f"input_ids_{j}")[None].astype(np.int32), case.array(f"logit_positions_{j}")
        for kind, chosen in (("same", sticky_length), ("fresh", length)):
            name = f"logits_{kind}_module_{j}"
            logits_BTV, _ = forward(model.cfg, model.with_rope(model.rope(chosen)), tokens_BT)
            yield Check(name, logits_BTV[0, at], case.array(name), model.allowed(length))


def training(case: Case) -> Iterator[Check]:
    """Check CLEX's loss and gradients with the draws of the peer."""
    model, tokens_BT = subject(case), case.array("input_ids")[None].astype(np.int32)
    t, inner_T, length = jnp.int32(case["t"]), drawn(case, "ex_positions"), tokens_BT.shape[1]
    clex = model.method.rope
    assert isinstance(clex, ClexRope)

    def run(params, method_params):
        rope = clex.train(model.cfg, method_params, t, length, inner_T)
        logits_BTV, loss = forward(
            model.cfg, Subject(model.cfg, model.method, params, method_params).with_rope(rope), tokens_BT
        )
        return loss, (logits_BTV, rope.position_BT)

    (loss, (logits_BTV, position_BT)), grads = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))(
        model.params, model.method_params
    )
    place_T = case.array("ex_positions")
    yield Check("ex_positions", position_BT[0], place_T, 1e-7 * place_T)
    yield Check("logits", logits_BTV[0, case.array("logit_positions")], case.array("logits"), model.allowed(length))
    yield Check("loss", loss, case.array("loss"), LOSS)
    theirs = to_hf(grads[0], model.cfg)
    found = {
        "grad_ode_up_proj": grads[1]["up_RP"],
        "grad_ode_down_proj": grads[1]["down_PR"],
        "grad_q_proj_layer0": theirs["model.layers.0.self_attn.q_proj.weight"],
    }
    for name, got in found.items():
        want = case.array(name)
        yield Check(name, got, want, GRADIENT * np.abs(want).max())
