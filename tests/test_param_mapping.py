"""Names and shapes of checkpoints: what is accepted, what is refused, and how it is said."""

import dataclasses

import numpy as np
import pytest

from in_memory import InMemory
from longjax.checkpoints.families import weight_table
from longjax.checkpoints.param_mapping import (
    TableTensors,
    check_names,
    check_tied_head,
    fit_vocab,
    from_hf,
    hf_shape,
    member_rows,
    stored_names,
    tensor_members,
    to_hf,
)
from longjax.config import TINY, ModelConfig
from longjax.model.llama import global_shapes, layer_shapes

LLAMA = ModelConfig(vocab=11, dim=12, layers=2, heads=2, kv_heads=1, ffn=10, head_width=4, biases=("q", "gate", "down"))
PHI_BIASES = ("q", "k", "v", "o", "up", "down", "norm", "unembed")
PHI = dataclasses.replace(LLAMA, norm="layer", gated=False, parallel=True, biases=PHI_BIASES)
MPT = ModelConfig(
    vocab=11, dim=12, layers=2, heads=3, kv_heads=3, ffn=48, norm="layer", act="gelu", gated=False, tied=True
)
MODELS = {
    "llama": LLAMA,
    "tied": dataclasses.replace(LLAMA, tied=True),
    "phi": PHI,
    "mpt": MPT,
    "mpt biased": dataclasses.replace(MPT, tied=False, biases=("q", "k", "v", "o", "up", "down", "norm")),
}


def params_of(cfg):
    rng = np.random.default_rng(0)
    stacked = {name: (cfg.layers, *shape) for name, shape in layer_shapes(cfg).items()}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in (global_shapes(cfg) | stacked).items()}


@pytest.mark.parametrize("cfg", MODELS.values(), ids=MODELS)
def test_to_hugging_face_and_back_is_exact(cfg):
    params = params_of(cfg)
    again = from_hf(to_hf(params, cfg), cfg)
    assert again.keys() == params.keys()
    for name, x in params.items():
        np.testing.assert_array_equal(again[name], x)


@pytest.mark.parametrize("cfg", MODELS.values(), ids=MODELS)
def test_shapes_are_known_without_the_tensors(cfg):
    shapes = {name: x.shape for name, x in to_hf(params_of(cfg), cfg).items()}
    assert shapes == {name: hf_shape(members, cfg) for name, members in tensor_members(cfg).items()}


def test_three_runs_of_rows_are_one_tensor_of_mpt():
    params = params_of(MPT)
    fused = to_hf(params, MPT)["transformer.blocks.1.attn.Wqkv.weight"]
    for part, name in enumerate(("q_DNH", "k_DKH", "v_DKH")):
        rows = member_rows(weight_table(MPT)[name], len(fused))
        assert rows == slice(12 * part, 12 * part + 12)
        np.testing.assert_array_equal(fused[rows], params[name][1].reshape(12, 12).T)


def test_one_error_lists_all_that_does_not_fit():
    shapes = InMemory(to_hf(params_of(TINY), TINY)).shapes()
    del shapes["model.layers.0.mlp.up_proj.weight"], shapes["lm_head.weight"]
    shapes["model.layers.1.self_attn.k_proj.weight"] = (64, 64)
    with pytest.raises(ValueError, match="does not fit") as error:
        check_names(shapes | {"model.layers.7.extra.weight": (1,)}, TINY)
    assert str(error.value).partition(": ")[2] == (
        "tensor lm_head.weight is missing; tensor model.layers.0.mlp.up_proj.weight is missing; tensor "
        "model.layers.1.self_attn.k_proj.weight has shape (64, 64), not (32, 64); tensor model.layers.7.extra.weight "
        "is unknown"
    )


def test_biases_that_the_configuration_does_not_have_are_unknown():
    shapes = InMemory(to_hf(params_of(TINY), TINY)).shapes()
    with pytest.raises(ValueError, match=r"layers.0.self_attn.q_proj.bias is unknown"):
        check_names(shapes | {"model.layers.0.self_attn.q_proj.bias": (64,)}, TINY)


def test_buffers_are_no_weights():
    state = to_hf(params_of(TINY), TINY)
    buffers = ("model.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.h.attn.bias")
    assert TableTensors(InMemory(state | dict.fromkeys(buffers, np.ones(4))), TINY).shapes().keys() == state.keys()


@pytest.mark.parametrize("cfg", [MODELS["tied"], MPT], ids=["llama", "mpt"])
def test_base_models_are_saved_without_prefix(cfg):
    state = to_hf(params_of(cfg), cfg)
    bare = InMemory({name.partition(".")[2]: x for name, x in state.items()})
    check_names(bare.shapes(), cfg)
    named = TableTensors(bare, cfg)
    assert named.shapes() == InMemory(state).shapes()
    for name, x in state.items():
        np.testing.assert_array_equal(named.read(name, slice(1, 3)), x[1:3])
    assert from_hf(bare, cfg).keys() == from_hf(state, cfg).keys()


def test_the_head_has_no_prefix_in_either():
    assert stored_names(["embed_tokens.weight", "lm_head.weight"], TINY) == {
        "model.embed_tokens.weight": "embed_tokens.weight",
        "lm_head.weight": "lm_head.weight",
    }


def test_a_tied_head_may_be_there_and_is_not_used():
    cfg = MODELS["tied"]
    state = to_hf(params_of(cfg), cfg)
    assert "lm_head.weight" not in state
    assert "unembed_DV" not in from_hf(state | {"lm_head.weight": np.zeros((11, 12))}, cfg)
    with pytest.raises(ValueError, match=r"lm_head.weight is missing"):
        from_hf(state, dataclasses.replace(cfg, tied=False))


@pytest.mark.parametrize("cfg", MODELS.values(), ids=MODELS)
def test_the_vocabulary_is_the_embedding_s(cfg):
    shapes = InMemory(to_hf(params_of(cfg), cfg)).shapes()
    assert fit_vocab(dataclasses.replace(cfg, vocab=99), shapes) == cfg


def test_width_and_biases_of_mpt_are_those_of_its_tensors():
    biased = MODELS["mpt biased"]
    for cfg in (biased, dataclasses.replace(biased, biases=())):
        shapes = InMemory(to_hf(params_of(cfg), cfg)).shapes()
        assert fit_vocab(dataclasses.replace(biased, ffn=24), shapes) == cfg
        assert fit_vocab(dataclasses.replace(biased, biases=()), shapes) == cfg


def test_a_tied_head_must_be_the_embedding():
    cfg = MODELS["tied"]
    state = InMemory(to_hf(params_of(cfg), cfg))
    check_tied_head(state, cfg)
    embed = state["model.embed_tokens.weight"]
    check_tied_head(InMemory(state | {"lm_head.weight": embed.copy()}), cfg)
    for head in (-embed, embed[:-1]):
        with pytest.raises(ValueError, match=r"lm_head\.weight is another: set tie_word_embeddings"):
            check_tied_head(InMemory(state | {"lm_head.weight": head}), cfg)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "_forward_module.", "base_model.model.", "module._orig_mod."]
)
def test_prefixes_of_wrappers_are_no_names(prefix):
    state = to_hf(params_of(TINY), TINY)
    wrapped = InMemory({prefix + name: x for name, x in state.items()})
    check_names(wrapped.shapes(), TINY)
    for name, x in state.items():
        np.testing.assert_array_equal(TableTensors(wrapped, TINY).read(name), x)
    with pytest.raises(ValueError, match="which are the same"):
        check_names(InMemory(state | wrapped).shapes(), TINY)


def test_a_message_has_ten_names_and_ends():
    with pytest.raises(ValueError, match=r"and \d+ more") as error:
        check_names({"x.weight": (1,)}, TINY)
    assert len(str(error.value)) < 1000
    with pytest.raises(ValueError, match="num_hidden_layers=1000000000000"):
        check_names({"x.weight": (1,)}, dataclasses.replace(TINY, layers=10**12))


def test_integers_are_no_weights():
    state = InMemory(to_hf(params_of(TINY), TINY))
    state["model.norm.weight"] = np.ones(64, np.int8)
    with pytest.raises(ValueError, match=r"model\.norm\.weight is of type int8"):
        TableTensors(state, TINY).read("model.norm.weight")
