"""Golden checks of frequencies, cosine tables, ALiBi, T5, layouts, learning rates and Hugging Face configurations."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from golden_checks.exact_case import Case, Check
from longjax.attention.core import BranchInputs, attention_scores
from longjax.attention.rope import Rope, cos_sin, rotate
from longjax.checkpoints.config_from_hf import method_of, rope_parameters, trained_len
from longjax.checkpoints.param_mapping import hf_to_meta, meta_to_hf
from longjax.config import ModelConfig
from longjax.inference.rope_length import lengths_used, sticky, sticky_with_reset
from longjax.methods.alibi import alibi, t5_bucket
from longjax.methods.ds_bf16 import ds_bf16
from longjax.methods.method import Method, base
from longjax.methods.ntk import NtkRope, ntk_32k, ntk_frozen, ntk_static
from longjax.methods.pi import dynamic_pi, pi
from longjax.methods.yarn import dynamic_yarn, part_ntk, yarn
from longjax.training import schedules

FREQUENCY, MID_BAND = 1e-6, 5e-6  # relative; the second for llama3, whose peer mixes in float32
TABLE = 6e-7  # of cosine and sine: times scale * (1 + angle)
LITERALS = {"ntk32k": 32_768, "ntk64k": 65_536, "ntk_32k": 32_768, "ntk_64k": 65_536}  # in LCEG's two files


def config(case: Case, context: int, head_dim: int, rotary_dim: int | None = None) -> ModelConfig:
    """Return a model with the case's heads; half a channel is added against rounding in `rotary_fraction`."""
    fraction = 1.0 if rotary_dim in (None, head_dim) else (rotary_dim + 0.5) / head_dim
    base = float(case.get("base", 10_000.0))
    return ModelConfig(head_width=head_dim, rotary_fraction=fraction, rope_base=base, trained_len=context)


def trained_for(case: Case) -> int:
    """Return the length that LCEG's file was written for: a field, or the literal in the file that `peer` names."""
    if case.get("train_len"):
        return case["train_len"]
    return next(reach for name, reach in LITERALS.items() if name in case["peer"])


def _dynamic_yarn(case: Case) -> Method:
    most, original = case["max_position_embeddings"], case["original_max_position_embeddings"]
    divisor = most if case["peer"] == "lceg" else original
    return dynamic_yarn(most, divisor, most / original if case["finetuned"] else 1.0)


def _lceg(case: Case) -> Method:
    return ntk_32k(trained_for(case), case["s"])


# family -> the method, for peers that are not described by a Hugging Face configuration
OLD: dict[str, Callable[[Case], Method]] = {
    "default": lambda case: base(),
    "linear": lambda case: pi(case["factor"]),
    "ntk_static": lambda case: ntk_static(case["alpha"]),
    "dynamic": lambda case: ntk_frozen(case["factor"]),
    "dynamic_linear": lambda case: dynamic_pi(),
    "lceg_ntk32k": _lceg,
    "lceg_ntk64k": _lceg,
    "fu_reset_rope": _lceg,
    "yarn": lambda case: yarn(case["factor"], case["beta_fast"], case["beta_slow"]),
    "dynamic-yarn": _dynamic_yarn,
    "part_ntk": lambda case: part_ntk(case["factor"]),
}


def described(case: Case) -> tuple[ModelConfig, Method]:
    """Return the model and the method of a table's case."""
    head_dim, rotary_dim = case["head_dim"], case["rotary_dim"]
    if "rope_parameters" not in case.fields:
        context = case.get("max_position_embeddings")
        context = case.get("original_max_position_embeddings") or context
        return config(case, context, head_dim, rotary_dim), OLD[case["family"]](case)
    rope = case["rope_parameters"]
    kind = "phi" if "partial_rotary_factor" in rope else "llama"
    whole = {"model_type": kind, "rope_parameters": rope, "max_position_embeddings": case["max_position_embeddings"]}
    cfg = ModelConfig(
        head_width=head_dim, rotary_fraction=rope.get("partial_rotary_factor", 1.0),
        rope_base=rope_parameters(whole)["rope_theta"], trained_len=trained_len(whole),
    )  # fmt: skip
    return cfg, method_of(whole)


def table_checks(case: Case, rope: Rope, absolute: float = TABLE, relative: float = TABLE) -> Iterator[Check]:
    """Check cosine and sine at the case's positions, both halves."""
    position_T = case.array("positions")
    allowed_TR = rope.scale * (absolute + relative * position_T[:, None] * np.asarray(rope.inv_freq_R, np.float64))
    for name, half in zip(("cos", "sin"), cos_sin(jnp.asarray(position_T, jnp.float32)[None], rope), strict=True):
        yield Check(name, np.tile(half[0], 2), case.array(name), np.tile(allowed_TR, 2))


def table(case: Case) -> Iterator[Check]:
    cfg, method = described(case)
    assert cfg.rotary_dim == case["rotary_dim"], (cfg.rotary_dim, case["rotary_dim"])
    length, effective_R = case["seq_len"], case.array("eff_inv_freq")
    rope = method.rope(cfg, length, {}, None)
    relative = MID_BAND if case["family"] == "llama3" else FREQUENCY
    yield Check("eff_inv_freq", rope.inv_freq_R, effective_R, relative * effective_R)
    divides = case["family"] in ("linear", "dynamic_linear") and "rope_parameters" not in case.fields
    buffer = base().rope(cfg, length, {}, None) if divides else rope  # old PI divides positions, not the buffer
    yield Check("inv_freq_buffer", buffer.inv_freq_R, case.array("inv_freq_buffer"), relative * buffer.inv_freq_R)
    yield Check("attention_scaling", rope.scale, case.array("attention_scaling"), FREQUENCY)
    yield from table_checks(case, rope)
    yield from alphas(case, cfg, method)


def alphas(case: Case, cfg: ModelConfig, method: Method) -> Iterator[Check]:
    """Check the alphas that a case records."""
    if isinstance(method.rope, NtkRope) and "alpha" in case.fields:
        yield Check("alpha", method.rope.alpha(cfg, case["seq_len"]), case["alpha"], 1e-9 * case["alpha"])
    elif case["family"] == "ntk_static" and "rope_parameters" in case.fields:  # written as a larger base
        plain = config(case, cfg.trained_len, case["head_dim"], case["rotary_dim"])
        rope = ntk_static(case["alpha"]).rope(plain, 1, {}, None)
        yield Check("alpha", rope.inv_freq_R, case.array("eff_inv_freq"), FREQUENCY * rope.inv_freq_R)
    if "alpha_at_train_len" in case.fields:  # NTK-32K as "dynamic" with another base: undo it
        a0, s, reach = case["alpha_at_train_len"], case["s"], case["max_position_embeddings"]
        plain = config(case, round(s * reach / (a0 + s - 1)), case["head_dim"], case["rotary_dim"])
        rope = ntk_32k(reach, s).rope(plain, case["seq_len"], {}, None)
        yield Check("alpha_at_train_len", rope.inv_freq_R, case.array("eff_inv_freq"), FREQUENCY * rope.inv_freq_R)


def stateful(case: Case) -> Iterator[Check]:
    """Check one module with sequences of several lengths."""
    cfg = config(case, case["max_position_embeddings"], case["head_dim"])
    method = _lceg(case) if "s" in case.fields else ntk_frozen(case["factor"])
    growth = sticky_with_reset if case["peer"].startswith("transformers==5") else sticky
    used = lengths_used(growth, case["call_lengths"], cfg.trained_len)
    ropes = [method.rope(cfg, length, {}, None) for length in used]
    inv_freq_CR = np.stack([rope.inv_freq_R for rope in ropes])
    yield Check("inv_freq_after_call", inv_freq_CR, case.array("inv_freq_after_call"), FREQUENCY * inv_freq_CR)
    if "cos_row" in case.arrays:
        yield from cos_rows(case, ropes)


def cos_rows(case: Case, ropes: list[Rope], absolute: float = TABLE, relative: float = TABLE) -> Iterator[Check]:
    place_C = case.array("cos_row_position")
    cos = [cos_sin(jnp.full((1, 1), p, jnp.float32), rope)[0][0, 0] for p, rope in zip(place_C, ropes, strict=True)]
    inv_freq_CR = np.stack([rope.inv_freq_R for rope in ropes])
    allowed_CR = absolute + relative * place_C[:, None] * inv_freq_CR
    yield Check("cos_row", np.tile(np.stack(cos), 2), case.array("cos_row"), np.tile(allowed_CR, 2))


def deepspeed(case: Case) -> Iterator[Check]:
    """Tables of bfloat16 numbers: at most a unit in the last place away, float32 angles apart, and that rarely."""
    built = case["max_position_embeddings"]
    cfg = config(case, case.get("original_max_position_embeddings") or built, case["head_dim"])
    if "scale" in case.fields:
        method = yarn(case["scale"])
    else:
        method = ntk_frozen(case["scaling_factor"]) if "ntk" in case["case_id"] else pi(case["scaling_factor"])
    length = case["seq_len"]
    rope = ds_bf16(method, built, run=16).rope(cfg, length, {}, None)  # the peer ran on a CPU
    position_T = case.array("positions")
    angle_TR = np.tile(position_T[:, None] * np.asarray(rope.inv_freq_R, np.float64), 2)
    for name, half in zip(("cos", "sin"), cos_sin(jnp.asarray(position_T, jnp.float32)[None], rope), strict=True):
        got, want = np.tile(half[0], 2), case.array(name)
        yield Check(name, got, want, 2**-7 * np.abs(want) + TABLE * (1 + angle_TR))
        yield Check(f"{name}: share that differs", np.mean(got != want), 0.0, 0.02)
    whole = np.concatenate([x[0] for x in cos_sin(jnp.arange(length, dtype=jnp.float32)[None], rope)], axis=-1)
    yield Check("distinct_rows", len({row.tobytes() for row in whole}), case.array("distinct_rows"), 0)


def slopes(case: Case) -> Iterator[Check]:
    """Check the bias that attention adds. Peers differ by a constant in each row, which does not change softmax."""
    heads, length = case["num_heads"], case["length"]
    cfg = ModelConfig(heads=heads, kv_heads=heads, trained_len=length)
    rope = alibi().rope(cfg, length, {}, None)
    zeros, index_BS = jnp.zeros((1, length, heads, 1)), jnp.arange(length, dtype=jnp.int32)[None]
    lo, place_BS = jnp.zeros((1, 1, 1), jnp.int32), index_BS.astype(jnp.float32)
    last = index_BS[:, -1:]
    part = BranchInputs(
        zeros[:, -1:], zeros, zeros, lo, lo + length, last, index_BS, place_BS[:, -1:], place_BS, rope.slopes_N
    )
    want = case.array("bias_last_row")[:, 0]
    bias_NS = attention_scores(part)[0].reshape(heads, length)
    want = want - want[:, -1:]
    allowed_NS = 4e-6 * np.maximum(1.0, np.abs(want) / 16)  # beyond 16 that is two units in the last place
    yield Check("bias_last_row", bias_NS - bias_NS[:, -1:], want, allowed_NS)


def buckets(case: Case) -> Iterator[Check]:
    relative = case.array("relative_position")
    got = t5_bucket(relative, case["num_buckets"], case["max_distance"], case["bidirectional"])
    yield Check("bucket", got, case.array("bucket"), 0)


def layout(case: Case) -> Iterator[Check]:
    """Check Meta's and Hugging Face's order of channels: weights, rotated queries and keys, scores."""
    H, N, K, length = case["head_dim"], case["n_heads"], case["n_kv"], case["L"]
    rope = base().rope(ModelConfig(head_width=H), length, {}, None)
    position_BT = jnp.arange(length, dtype=jnp.float32)[None]
    rotated = {}
    for name, heads in (("q", N), ("k", K)):
        meta, hf = case.array(f"w{name}_meta"), case.array(f"w{name}_hf")
        yield Check(f"w{name}_hf", meta_to_hf(meta, heads), hf, 0)
        yield Check(f"w{name}_meta", hf_to_meta(hf, heads), meta, 0)
        x = jnp.matmul(case.array("x"), meta_to_hf(meta, heads).T, precision="highest")
        rotated[name] = turned = np.asarray(rotate(x.reshape(1, length, heads, H), position_BT, rope)[0])
        size = 2e-6 * np.abs(turned).max()
        yield Check(f"{name}_rot_hf", turned, case.array(f"{name}_rot_hf"), size)
        in_meta = hf_to_meta(turned.reshape(length, -1).T, heads).T.reshape(length, heads, H)
        yield Check(f"{name}_rot_meta", in_meta, case.array(f"{name}_rot_meta"), size)
    k = np.repeat(rotated["k"], N // K, axis=1)
    scores = np.einsum("tnh,snh->nts", rotated["q"], k)
    yield Check("scores", scores, case.array("scores"), 2e-6 * np.abs(scores).max())


def learning_rates(case: Case) -> Iterator[Check]:
    peak, total, warmup = 2e-5, case["total"], case["warmup"]  # the peak in the README
    made = {
        "WarmupDecayLR": lambda: schedules.log_warmup_decay(peak, total, warmup),
        "WarmupLR": lambda: schedules.log_warmup(peak, warmup),
        "get_constant_schedule_with_warmup": lambda: schedules.constant(peak, warmup),
        "get_linear_schedule_with_warmup": lambda: schedules.linear(peak, total, warmup),
    }
    schedule = next(make for name, make in made.items() if name in case["peer"])()
    got = schedule(jnp.arange(total))
    yield Check("lr_used_at_update", got, case.array("lr_used_at_update"), 1e-6 * peak)


def configurations(path: Path) -> Iterator[tuple[str, Check]]:
    """Yield (name of the row, check) of configurations as transformers 5 reads and saves them."""
    for row in json.loads(path.read_text())["rows"]:
        read = row["rope_parameters"]
        kind = {"model_type": "phi"} if "partial_rotary_factor" in read else {}
        config_in, saved = row["config_in"] | kind, row["saved_rope_keys"] | kind
        ours = rope_parameters(config_in)
        yield row["name"], Check("rope_parameters", ours == read, True, 0)
        same = (method_of(config_in), trained_len(config_in)) == (method_of(saved), trained_len(saved))
        yield row["name"], Check("saved_rope_keys", same, True, 0)
        if "rotary_error" in row:  # transformers cannot build it; we can
            continue
        half = row.get("n_inv_freq", 64)
        head_dim = round(2 * half / read.get("partial_rotary_factor", 1.0))
        cfg = ModelConfig(
            head_width=head_dim, rotary_fraction=ours.get("partial_rotary_factor", 1.0),
            rope_base=ours["rope_theta"], trained_len=trained_len(config_in),
        )  # fmt: skip
        rope = method_of(config_in).rope(cfg, 1, {}, None)
        yield row["name"], Check("n_inv_freq", len(rope.inv_freq_R), half, 0)
        if "inv_freq_last" in row:
            want = row["inv_freq_last"]
            yield row["name"], Check("inv_freq_last", rope.inv_freq_R[-1], want, MID_BAND * want)
            yield row["name"], Check("attention_scaling", rope.scale, row["attention_scaling"], FREQUENCY)
