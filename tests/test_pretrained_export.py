"""Every method as a Hugging Face directory: what stock transformers makes of it is what we compute, or it is told."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.core import TokenPositions
from longjax.checkpoints import pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.pretrained import ExportOptions, ModelTensors
from longjax.cli import stock_logits
from longjax.config import TINY
from longjax.methods import ds_bf16, yarn
from longjax.methods.method import Method, all_trainable, plain_rope
from longjax.methods.pi import dynamic_pi
from longjax.methods.yarn import part_ntk
from longjax.model.llama import Llama, logits
from peers import peer
from small import ALL, T

CASES = pathlib.Path(__file__).parent / "golden" / "convert"
METHODS = ALL | {"dynamic_pi": dynamic_pi(), "part_ntk": part_ntk(4.0)}
SAME = {  # the same in stock transformers, at every length
    "base", "pi", "ntk_static", "ntk_frozen", "ntk_32k", "ntk_64k", "ntk_64k_code", "yarn", "longrope", "llama3",
    "theta", "longlora", "longlora_sft", "pi x s2", "sliding_window",
}  # fmt: skip
FROZEN = {"dynamic_yarn", "clex", "clex_rk4_peer", "dynamic_pi", "part_ntk"}  # at the length of the export
CFG = dataclasses.replace(TINY, vocab=96)
TOKENS = np.random.default_rng(0).integers(0, CFG.vocab, (2, T)).astype(np.int32)


def parameters(method):
    """Attention is far from uniform, adapters and the method's own are not zero, and norms are not one."""
    one, key = jnp.zeros((1, 8), jnp.int32), jax.random.key(0)
    shapes = jax.eval_shape(lambda: Llama(CFG, method).init(key, one, TokenPositions.whole(1, 8), 8)["params"])
    rng = np.random.default_rng(1)

    def draw(path, x):
        name = path[-1].key
        width = (
            0.05 if name in ("up_RP", "down_PR") else 0.15
        )  # CLEX with more turns so fast that float32 cannot follow
        drawn = rng.uniform(0.5, 1.5, x.shape) if "norm" in name else rng.normal(0.0, width, x.shape)
        return drawn.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, tokens, rope):
    hidden, _ = model.apply({"params": params}, tokens, TokenPositions.whole(*tokens.shape), tokens.shape[1], rope=rope)
    return logits(params, hidden)


def our_logits(params, cfg, method, length):
    """The table is made outside: within another program the released solver of CLEX rounds otherwise."""
    rope = method.rope(cfg, length, params.get("method", {}), None)
    model = Llama(cfg, dataclasses.replace(method, rope=plain_rope, trainable=all_trainable))  # to compile for many
    return np.asarray(run(model, params, TOKENS[:, :length], rope))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """-> what makes the directory of a method, once: (method, params, folder, notes)."""
    made = {}

    def export(name):
        if name not in made:
            method, params, folder = METHODS[name], parameters(METHODS[name]), tmp_path_factory.mktemp("export")
            notes = pretrained.export(folder, params, CFG, method, options=ExportOptions("float32", length=T))
            made[name] = method, params, folder, notes
        return made[name]

    return export


@pytest.mark.parametrize("name", METHODS)
def test_what_is_written_is_what_turns(name, exported):
    """Our own reader of config.json finds the same tables, or the method is one that was warned of."""
    method, params, folder, notes = exported(name)
    assert (not notes) == (name in SAME)
    assert (folder / "longjax.json").exists() == bool(notes)
    if name not in SAME | FROZEN:
        assert any("lacks the " in note for note in notes)
        return
    read = pretrained.open_checkpoint(folder)
    own = params.get("method", {})
    for length in (8, 32, 33, T, 128, 256) if name in SAME else (T,):
        want, got = method.rope(CFG, length, own, None), read.method.rope(read.cfg, length, {}, None)
        # 3e-6: the base was rounded once more; CLEX's own table is of float32 logarithms
        np.testing.assert_allclose(got.inv_freq_R, want.inv_freq_R, rtol=3e-6)
        assert got.scale == pytest.approx(want.scale * want.query_scale**0.5, rel=1e-12)


@pytest.mark.parametrize("name", sorted(SAME | FROZEN))
def test_stock_transformers_computes_the_same(name, exported):
    torch = peer("torch")
    transformers = peer("transformers")
    method, params, folder, _ = exported(name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    for length in (32, T) if name in SAME else (T,):
        want = our_logits(params, CFG, method, length)
        with torch.no_grad():
            got = model.eval()(torch.tensor(TOKENS[:, :length].astype(np.int64))).logits.numpy()
        assert np.std(want) > 0.3
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
    ("case", "method"),
    [
        ("phi", METHODS["yarn"]), ("phi", METHODS["ntk_32k"]), ("qwen2", METHODS["pi"]),
        ("mistral_window", METHODS["yarn"]), ("llama_llama3", METHODS["theta"]), ("mpt", METHODS["lm_infinite"]),
    ],
    ids=["phi yarn", "phi ntk", "qwen2 pi", "mistral yarn", "llama3 theta", "mpt"],
)  # fmt: skip
def test_families_keep_what_is_theirs(case, method, tmp_path):
    """Partial rotation, biases, windows; on MPT a method that transformers lacks, which leaves the base as it was."""
    peer("transformers")
    given = pretrained.open_checkpoint(CASES / case / "hf")
    method = on_base(method, given.method)
    notes = pretrained.write_checkpoint(
        tmp_path, ModelTensors(given.tensors, given.cfg), given.cfg, method, given, {}, ExportOptions("float32")
    )
    assert bool(notes) == (case == "mpt")
    want = method if not notes else given.method
    assert pretrained.open_checkpoint(tmp_path).method.attention == want.attention
    float32 = dataclasses.replace(given.cfg, dtype="float32")
    tokens = np.random.default_rng(0).integers(0, given.cfg.vocab, (2, 64))
    ours = stock_logits.longjax_logits(dataclasses.replace(given, cfg=float32, method=want), tokens)
    np.testing.assert_allclose(stock_logits.transformers_logits(tmp_path, tokens), ours, atol=1e-4)


def test_own_parameters_are_not_lost(exported):
    _, params, folder, _ = exported("clex")
    kept = pretrained.safetensors.read_safetensors(folder / "longjax.safetensors")
    assert set(kept) == {"up_RP", "down_PR"}
    np.testing.assert_array_equal(kept["up_RP"], params["method"]["up_RP"])


@pytest.mark.parametrize("name", ["base", "pi", "ntk_frozen", "theta"])
def test_old_transformers_has_two_keys(name, tmp_path):
    """Releases up to 4.44 reject any other, and would not read `rope_parameters`."""
    pretrained.export(tmp_path, parameters(METHODS[name]), CFG, METHODS[name], options=ExportOptions(style="4.36"))
    config = json.loads((tmp_path / "config.json").read_text())
    assert "rope_parameters" not in config
    assert config["rope_scaling"] is None or set(config["rope_scaling"]) == {"type", "factor"}
    read = pretrained.open_checkpoint(tmp_path)
    got, want = read.method.rope(read.cfg, T, {}, None), METHODS[name].rope(CFG, T, {}, None)
    np.testing.assert_array_equal(got.inv_freq_R, want.inv_freq_R)


def test_what_old_transformers_cannot_say(tmp_path):
    with pytest.raises(ValueError, match=r"--hf_config_style=4\.36 has no rope type 'yarn': choose both"):
        pretrained.export(tmp_path / "x", parameters(yarn(4.0)), CFG, yarn(4.0), options=ExportOptions(style="4.36"))
    assert not (tmp_path / "x").exists()


def test_both_dialects_say_the_same(exported):
    config = json.loads((exported("yarn")[2] / "config.json").read_text())
    rope, scaling = config["rope_parameters"], dict(config["rope_scaling"])
    assert scaling.pop("type") == rope["rope_type"] == "yarn"
    assert rope == scaling | {"rope_theta": config["rope_theta"]}
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert config["max_position_embeddings"] == 4 * CFG.trained_len


def test_rounded_positions_are_told(tmp_path):
    method = ds_bf16(METHODS["pi"])
    (note,) = pretrained.export(tmp_path, parameters(method), CFG, method)
    assert "exact positions" in note
    assert pretrained.open_checkpoint(tmp_path).method.rope == METHODS["pi"].rope


def test_without_a_length_nothing_is_frozen(tmp_path):
    (note,) = pretrained.export(tmp_path, parameters(METHODS["clex"]), CFG, METHODS["clex"])
    assert "name the length" in note
    assert pretrained.open_checkpoint(tmp_path).method == Method()


def test_fp16_overflow_is_an_error(tmp_path):
    params = parameters(METHODS["base"])
    params["norm_D"] = params["norm_D"] + np.float32(1e6)
    with pytest.raises(ValueError, match=r"--dtype=float16 cannot hold model\.norm\.weight"):
        pretrained.export(tmp_path / "x", params, CFG, METHODS["base"], options=ExportOptions("float16"))
    assert not list((tmp_path / "x").iterdir())
