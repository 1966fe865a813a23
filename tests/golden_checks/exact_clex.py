"""Golden checks of CLEX: the equation, its solutions, the tables made of them, and gradients.

The peer solves in float32 and carries 3e-5 of noise in its frequencies; hence the looser tolerances.
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.exact_case import Case, Check, find
from golden_checks.exact_tables import FREQUENCY, config, cos_rows, table_checks
from longjax.attention.rope import cos_sin, inv_freq
from longjax.config import ModelConfig
from longjax.inference.rope_length import lengths_used, stateless
from longjax.methods.clex import ClexRope, PeerGrid, clex, clex_rk4_peer, log_ntk, log_ntk_slope, log_slope
from longjax.methods.ntk import ntk_inv_freq

SOLVED = 1e-4  # relative, of the peer's frequencies
ABSOLUTE, RELATIVE = 1e-4, 5e-5  # of its tables: absolute, and times the angle
GRADIENT = 1e-3  # of the largest element


def parameters(case: Case) -> dict[str, jax.Array]:
    return {"up_RP": jnp.asarray(case.array("ode_up_proj")), "down_PR": jnp.asarray(case.array("ode_down_proj"))}


def weights_of(case: Case) -> dict[str, jax.Array]:
    """Return the matrices of the case that this one names."""
    return parameters(find(case.folder, case["ode_weights"].split()[0]))


def described(case: Case) -> tuple[ModelConfig, ClexRope]:
    head_dim = case.get("head_dim") or 2 * case.array("ode_up_proj").shape[0]
    cfg = config(case, case["C"], head_dim, case.get("rotary_dim", head_dim))
    method = clex(case["max_factor"], case["act"], case["param_factor"], log_scale=False)
    assert isinstance(method.rope, ClexRope)
    return cfg, method.rope


def equation(case: Case) -> Iterator[Check]:
    """Check right-hand side and solution at every integer t, by both of our solvers."""
    cfg, rope = described(case)
    method_params, time_T = parameters(case), case.array("time_grid")
    yield Check("time_grid", np.arange(1, case["max_factor"] + 1), time_T, 0)
    yield Check("zero_down_proj", not np.any(method_params["down_PR"]), case["zero_down_proj"], 0)
    yield Check("param_factor", method_params["up_RP"].shape[1], case["param_factor"] * cfg.rotary_dim, 0)
    yield Check("inv_freq_base", inv_freq(cfg), case.array("inv_freq_base"), FREQUENCY * inv_freq(cfg))
    want_TR = case.array("freq_at_time_grid")
    peer = clex_rk4_peer(case["max_factor"], case["act"], case["param_factor"]).rope
    assert isinstance(peer, ClexRope)
    peer = dataclasses.replace(peer, solve=PeerGrid(round(1 / case["time_dt"])))
    for name, each in (("freq_at_time_grid", rope), ("freq_at_time_grid (rk4_peer)", peer)):
        got_TR = np.stack([each.inv_freq(cfg, method_params, jnp.int32(t)) for t in time_T])
        yield Check(name, got_TR, want_TR, SOLVED * want_TR)
    if case["zero_down_proj"]:
        known_TR = np.stack([ntk_inv_freq(cfg, 2 * float(t) - 1) for t in time_T])
        yield Check("freq_at_time_grid (NTK)", known_TR, want_TR, SOLVED * want_TR)
    yield from right_hand_side(case, cfg, rope, method_params)


def right_hand_side(
    case: Case, cfg: ModelConfig, rope: ClexRope, method_params: dict[str, jax.Array]
) -> Iterator[Check]:
    time_E, x_R = jnp.asarray(case.array("rhs_t")), jnp.asarray(case.array("rhs_x"))
    slope_ER = jnp.stack([log_slope(rope.net(method_params), cfg, t, x_R) for t in time_E])
    want_ER = case.array("rhs_value")
    yield Check("rhs_value", slope_ER, want_ER, 1e-5 * np.abs(want_ER).max())
    ntk_ER = np.stack([np.exp(log_ntk(cfg, t)) for t in time_E])
    yield Check("ntk_inv_freq", ntk_ER, case.array("ntk_inv_freq"), 2e-6 * ntk_ER)
    delta_ER = ntk_ER * np.stack([log_ntk_slope(cfg, t) for t in time_E])
    yield Check("delta_ntk_freq", delta_ER, case.array("delta_ntk_freq"), 4e-6 * np.abs(delta_ER))


def inference(case: Case) -> Iterator[Check]:
    case.read |= {"time_dt", "zero_down_proj"}  # of the case with the weights
    cfg, rope = described(case)
    method_params, length = weights_of(case), case["seq_len"]
    made_rope = rope(cfg, length, method_params, None)
    freq_R = case.array("eff_inv_freq")
    yield Check("eff_inv_freq", made_rope.inv_freq_R, freq_R, SOLVED * freq_R)
    yield Check("t", made_rope.inv_freq_R, rope.inv_freq(cfg, method_params, jnp.int32(case["t"])), 0)
    yield from table_checks(case, made_rope, ABSOLUTE, RELATIVE)


def one_instance(case: Case) -> Iterator[Check]:
    """Check one layer with several lengths; the released one does not depend on earlier lengths."""
    case.read.add("ode_weights")  # the arrays are here
    cfg, rope = described(case)
    method_params, lengths = parameters(case), case["call_lengths"]
    used = list(lengths_used(stateless, lengths, cfg.trained_len))
    ropes = [rope(cfg, length, method_params, None) for length in used]
    yield Check("t_expected", [-(-length // cfg.trained_len) for length in used], case["t_expected"], 0)
    yield from cos_rows(case, ropes, ABSOLUTE, RELATIVE)


def drawn(case: Case, name: str) -> jax.Array:
    """Return inner_T, the integers that the peer drew for the tokens between the ends."""
    return jnp.asarray(np.round(case.array(name)[1:-1] * case["scale_factor"]) - 1, jnp.int32)


def training_table(case: Case) -> Iterator[Check]:
    """Check rows of the training table at a few tokens, whose drawn positions are in the case."""
    case.read |= {"time_dt"}
    cfg, rope = described(case)
    t, length, index_T = jnp.int32(case["t"]), case["seq_len"], case.array("token_index")
    position_T = case.array("ex_positions_at_token_index")
    inner_T = np.zeros(length, np.int32)  # that of token i at i; the tokens not given do not matter
    inner_T[index_T] = np.round(position_T * case["scale_factor"]) - 1
    made_rope = rope.train(cfg, weights_of(case), t, length, jnp.asarray(inner_T[1:-1]))
    assert made_rope.position_BT is not None
    yield Check("ex_positions_at_token_index", made_rope.position_BT[0, index_T], position_T, 1e-7 * position_T)
    allowed_TR = ABSOLUTE + RELATIVE * position_T[:, None] * np.asarray(made_rope.inv_freq_R)
    for name, half in zip(("cos", "sin"), cos_sin(made_rope.position_BT[:, index_T], made_rope), strict=True):
        yield Check(name, np.tile(half[0], 2), case.array(name), np.tile(allowed_TR, 2))


def gradient(case: Case) -> Iterator[Check]:
    """Check gradients of a random function of a training table with respect to both matrices."""
    case.read |= {"time_dt"}
    cfg, rope = described(case)
    t, length, inner_T = jnp.int32(case["t"]), case["seq_len"], drawn(case, "ex_positions")
    w_cos, w_sin = case.array("w_cos"), case.array("w_sin")

    def loss(method_params):
        made_rope = rope.train(cfg, method_params, t, length, inner_T)
        assert made_rope.position_BT is not None
        cos_BTR, sin_BTR = (jnp.tile(x, 2) for x in cos_sin(made_rope.position_BT, made_rope))
        return jnp.sum(cos_BTR * w_cos) + jnp.sum(sin_BTR * w_sin), made_rope

    (value, made_rope), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters(case))
    position_T = case.array("ex_positions")
    yield Check("ex_positions", made_rope.position_BT[0], position_T, 1e-7 * position_T)
    allowed_TR = np.tile(ABSOLUTE + RELATIVE * position_T[:, None] * np.asarray(made_rope.inv_freq_R), 2)
    allowed = np.sqrt(np.sum(allowed_TR**2 * (w_cos**2 + w_sin**2)))  # errors of the elements are independent
    yield Check("loss", value, case.array("loss"), allowed)
    for ours, theirs in (("up_RP", "grad_ode_up_proj"), ("down_PR", "grad_ode_down_proj")):
        want = case.array(theirs)
        yield Check(theirs, grads[ours], want, GRADIENT * np.abs(want).max())
