"""Adapters are merged as PEFT merges them, row by row; what cannot be merged is refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from in_memory import InMemory
from longjax.checkpoints import safetensors
from longjax.checkpoints.adapters import MergedAdapter, saved_name
from longjax.checkpoints.param_mapping import to_hf
from longjax.config import TINY
from peers import peer
from test_param_mapping import params_of

Q, UP, EMBED, NORM = (
    "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj", "model.embed_tokens", "model.norm",
)  # fmt: skip
RNG = np.random.default_rng(1)


def factors(module, outputs, inputs, rank=4, embedding=""):
    names = [f"base_model.model.{module}.lora_{embedding}{x}{'' if embedding else '.weight'}" for x in "AB"]
    shapes = [(rank, inputs), (outputs, rank)]
    return {name: RNG.standard_normal(s, np.float32) for name, s in zip(names, shapes, strict=True)}


def base(dtype=np.float32):
    return InMemory({name: x.astype(dtype) for name, x in to_hf(params_of(TINY), TINY).items()})


def write(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"} | config
    (folder / "adapter_config.json").write_text(json.dumps(said))
    safetensors.write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4.0),
        ({"r": 64}, 2.0),  # the rank is the tensor's: rank_pattern may have changed it
        ({"alpha_pattern": {"q_proj": 6}}, 1.5),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 6, "k_proj": 3}}, 2.0),
        ({"alpha_pattern": {r"^model\.layers\.1\..*": 1}}, 0.25),
    ],
)
def test_scale(tmp_path, config, scale):
    held = factors(Q, 64, 64)
    a, b = held.values()
    want = base()[f"{Q}.weight"] + np.float32(scale) * (b @ a)
    np.testing.assert_allclose(
        MergedAdapter(base(), write(tmp_path, held, **config)).read(f"{Q}.weight"), want, atol=1e-5
    )  # fp32 sums in another order, of magnitude 10


def test_every_row_range_is_part_of_the_whole(tmp_path):
    held = factors(Q, 64, 64) | factors(UP, 96, 64) | factors(EMBED, 64, 97, embedding="embedding_")
    held[f"base_model.model.{NORM}.weight"] = np.full(64, 3.0, np.float32)
    merged = MergedAdapter(base(), write(tmp_path, held))
    assert merged.shapes() == base().shapes()
    changed = set()
    for name, before in base().items():
        whole = merged.read(name)
        changed |= {name} if not np.array_equal(whole, before) else set()
        for rows in (slice(0, 0), slice(3, 9), slice(60, 64)):
            # a product of fewer rows may be summed in another order
            np.testing.assert_allclose(merged.read(name, rows), whole[rows], atol=1e-5, err_msg=name)
    assert changed == {f"{module}.weight" for module in (Q, UP, EMBED, NORM)}


def test_embeddings_are_the_other_way_around(tmp_path):
    held = factors(EMBED, 64, 97, embedding="embedding_")
    a, b = held.values()
    got = MergedAdapter(base(), write(tmp_path, held)).read(f"{EMBED}.weight")
    np.testing.assert_allclose(got, base()[f"{EMBED}.weight"] + 2 * (b @ a).T, atol=1e-5)


def test_added_in_float32_and_rounded_once(tmp_path):
    held, low = factors(Q, 64, 64), base(jnp.bfloat16)
    folder = write(tmp_path, held | {f"base_model.model.{NORM}.weight": np.full(64, 0.1, np.float32)})
    a, b = held.values()
    exact = low[f"{Q}.weight"].astype(np.float32) + np.float32(2) * (b @ a)
    got = MergedAdapter(low, folder).read(f"{Q}.weight")
    assert got.dtype == jnp.bfloat16
    assert (got == exact.astype(jnp.bfloat16)).mean() > 0.99  # the rest is a sum in another order, at a tie
    assert MergedAdapter(low, folder).read(f"{NORM}.weight").dtype == jnp.bfloat16
    full = MergedAdapter(low, folder, np.dtype(np.float32))
    np.testing.assert_allclose(full.read(f"{Q}.weight"), exact, atol=1e-5)
    assert {full.read(name).dtype for name in low} == {np.dtype(np.float32)}


def test_names_of_all_ages():
    for name in (f"base_model.model.{Q}.weight", f"{Q}.modules_to_save.default.weight", f"{Q}.modules_to_save.weight"):
        assert saved_name(name) == f"{Q}.weight"
    assert saved_name("base_model.model.lm_head.modules_to_save.bias") == "lm_head.bias"
    assert saved_name(f"base_model.model.{EMBED}.base_layer.weight") == f"{EMBED}.weight"  # of an adapted embedding


def test_the_base_s_own_copy_is_not_used(tmp_path):
    ours, copy = np.full(64, 3.0, np.float32), np.full(64, 4.0, np.float32)
    held = {f"{NORM}.modules_to_save.default.weight": ours, f"{NORM}.original_module.weight": copy}
    merged = MergedAdapter(base(), write(tmp_path, {f"base_model.model.{name}": x for name, x in held.items()}))
    np.testing.assert_array_equal(merged.read(f"{NORM}.weight"), ours)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"use_dora": True}, "use_dora=True is not supported"),
        ({"bias": "all"}, "only peft_type LORA with bias none"),
        ({"peft_type": "IA3"}, "only peft_type LORA"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4' changes the base"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
    ],
)
def test_what_is_no_sum_of_products_is_refused(tmp_path, config, match):
    with pytest.raises(ValueError, match=match):
        MergedAdapter(base(), write(tmp_path, factors(Q, 64, 64), **config))


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        (factors(Q, 64, 64) | {f"base_model.model.{Q}.lora_magnitude_vector.weight": np.ones(64)}, "magnitude_vector"),
        (dict(list(factors(Q, 64, 64).items())[:1]), "the adapter lacks 'B'"),
        (factors(Q, 64, 32), r"adapter of model.layers.1.self_attn.q_proj.weight is of shape \(64, 32\), not \(64, 64"),
        (factors("model.layers.9.mlp.up_proj", 96, 64), r"does not have: model.layers.9.mlp.up_proj.weight"),
        ({"base_model.model.lm_head.vectors": np.ones(3)}, "does not have: lm_head.vectors"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, tensors, match):
    with pytest.raises(ValueError, match=match):
        MergedAdapter(base(), write(tmp_path, tensors))


def test_missing_files_are_named(tmp_path):
    folder = write(tmp_path, factors(Q, 64, 64))
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ValueError, match=r"adapter_config\.json is missing or damaged"):
        MergedAdapter(base(), folder)
    with pytest.raises(ValueError, match=r"no-such-folder"):
        MergedAdapter(base(), tmp_path / "no-such-folder")


def test_longlora_s_release_grows_the_vocabulary(tmp_path):
    torch = peer("torch")
    folder = write(tmp_path, factors(Q, 64, 64))
    trained = {f"{EMBED}.weight": torch.ones(98, 64), f"{NORM}.weight": torch.full((64,), 2.0)}
    torch.save(trained, folder / "trainable_params.bin")
    merged, head = MergedAdapter(base(), folder), base()["lm_head.weight"]
    assert merged.shapes() == base().shapes() | {f"{EMBED}.weight": (98, 64), "lm_head.weight": (98, 64)}
    np.testing.assert_array_equal(merged.read("lm_head.weight")[:97], head)
    np.testing.assert_allclose(merged.read("lm_head.weight", slice(97, 98)), head.mean(0, keepdims=True), atol=1e-7)
    np.testing.assert_array_equal(merged.read(f"{EMBED}.weight"), trained[f"{EMBED}.weight"].numpy())
    np.testing.assert_array_equal(merged.read(f"{NORM}.weight"), np.full(64, 2.0))


def test_a_base_without_prefix_is_changed_all_the_same(tmp_path):
    held = factors(Q, 64, 64) | {f"base_model.model.{NORM}.weight": np.full(64, 3.0, np.float32)}
    folder = write(tmp_path, held)
    bare = InMemory({name.removeprefix("model."): x for name, x in base().items()})
    want, got = MergedAdapter(base(), folder), MergedAdapter(bare, folder)
    for name, shape in want.shapes().items():
        assert got.shapes()[name.removeprefix("model.")] == shape
        np.testing.assert_array_equal(got.read(name.removeprefix("model.")), want.read(name))


OTHER = RNG.standard_normal((97, 64), np.float32)
WHOLE_EMBED, WHOLE_HEAD = {f"base_model.model.{EMBED}.weight": OTHER}, {"base_model.model.lm_head.weight": -OTHER}
LORA_EMBED, LORA_HEAD = factors(EMBED, 64, 97, embedding="embedding_"), factors("lm_head", 97, 64)


@pytest.mark.parametrize("stored", [False, True], ids=["no head", "the same head"])
@pytest.mark.parametrize(
    ("held", "embed", "head"),
    [
        (WHOLE_EMBED | WHOLE_HEAD, lambda x: OTHER, lambda x: -OTHER),
        (WHOLE_EMBED, lambda x: OTHER, lambda x: x),  # PEFT trains a copy, and the head stays as it was
        (WHOLE_HEAD, lambda x: x, lambda x: -OTHER),
        (LORA_EMBED, lambda x: x + 2 * np.matmul(*list(LORA_EMBED.values())[::-1]).T, lambda x: x),
        (LORA_HEAD, lambda x: x, lambda x: x + 2 * np.matmul(*list(LORA_HEAD.values())[::-1])),
    ],
    ids=["both", "embedding", "head", "LoRA of the embedding", "LoRA of the head"],
)
def test_a_tied_embedding_and_its_head_are_two_tensors_once_one_is_trained(tmp_path, held, embed, head, stored):
    tied = base()
    tied["lm_head.weight"] = tied[f"{EMBED}.weight"]
    before = tied[f"{EMBED}.weight"]
    given = tied if stored else InMemory({name: x for name, x in tied.items() if name != "lm_head.weight"})
    merged = MergedAdapter(given, write(tmp_path, held), tied=True)
    assert merged.unties
    assert merged.shapes() == tied.shapes()
    np.testing.assert_allclose(merged.read(f"{EMBED}.weight"), embed(before), atol=1e-5)
    np.testing.assert_allclose(merged.read("lm_head.weight"), head(before), atol=1e-5)


def test_a_tied_base_stays_tied_where_neither_is_trained(tmp_path):
    tied = InMemory({name: x for name, x in base().items() if name != "lm_head.weight"})
    merged = MergedAdapter(tied, write(tmp_path, factors(Q, 64, 64)), tied=True)
    assert not merged.unties
    assert merged.shapes() == tied.shapes()


Q0, Q1 = factors("model.layers.0.self_attn.q_proj", 64, 64), factors(Q, 64, 64)
NO_VALUES = {name: np.zeros(0, np.float32) for name in Q1}


@pytest.mark.parametrize(
    ("held", "config", "match"),
    [
        ({}, {}, "holds no values of any tensor"),
        (NO_VALUES, {}, "holds no values of base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"),
        (Q1, {"target_modules": ["q_proj"]}, "it trains: model.layers.0.self_attn.q_proj.weight"),
        (Q1, {"target_modules": r".*\.q_proj"}, "it trains: model.layers.0.self_attn.q_proj.weight"),
        (Q0 | Q1, {"target_modules": ["q_proj", "o_proj"]}, "it trains: model.layers.0.self_attn.o_proj.weight, "),
        (Q0 | Q1, {"modules_to_save": ["lm_head"]}, "it trains: lm_head.weight"),
    ],
    ids=["empty", "ZeRO-3", "a layer", "by a pattern", "a module", "a whole module"],
)
def test_an_adapter_that_lacks_something_is_refused(tmp_path, held, config, match):
    with pytest.raises(ValueError, match=match):
        MergedAdapter(base(), write(tmp_path, held, **config))
    MergedAdapter(base(), write(tmp_path, Q0 | Q1, target_modules=["q_proj"]))
    MergedAdapter(base(), write(tmp_path, Q1, target_modules=["q_proj"], layers_to_transform=[1]))


def test_an_adapter_beside_its_base_is_the_adapter(tmp_path):
    folder = write(tmp_path, Q1)
    safetensors.write_safetensors(folder / "model.safetensors", base())
    assert MergedAdapter(base(), folder).factors.keys() == {f"{Q}.weight"}
