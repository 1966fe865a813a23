"""Meta's releases: parts joined, names and rows as Hugging Face has them, whatever range of rows is asked for."""

import dataclasses
import json

import numpy as np
import pytest

from longjax.checkpoints.config_from_hf import method_of, model_of
from longjax.checkpoints.meta_files import MetaFolder, meta_trained_len, rope_scaling
from longjax.checkpoints.param_mapping import hf_to_meta, to_hf
from longjax.checkpoints.tensor_names import META
from longjax.config import TINY
from longjax.methods import llama3
from peers import peer
from test_param_mapping import params_of

torch = peer("torch")
CFG = dataclasses.replace(TINY, heads=8, kv_heads=4, ffn=96, vocab=96)
PARAMS = {"dim": 64, "n_layers": 2, "n_heads": 8, "n_kv_heads": 4, "norm_eps": 1e-5, "vocab_size": -1}
COLUMNS = ("wo", "w2")


def meta_state(state):
    """Hugging Face's tensors by Meta's names, with the rows of q and k in its order."""
    named = {}
    for name, x in state.items():
        module, kind = name.rpartition(".")[::2]
        for ours, theirs in META.outer.items():
            if module == theirs:
                named[f"{ours}.{kind}"] = x
        for ours, theirs in META.layer.items():
            if module.endswith(theirs):
                heads = {"attention.wq": 8, "attention.wk": 4}.get(ours)
                named[f"layers.{module.split('.')[2]}.{ours}.{kind}"] = hf_to_meta(x, heads) if heads else x
    return named


def write(folder, state, shards, llama3=False, params=PARAMS):
    """As Meta splits: matrices over rows, wo and w2 over columns, embeddings over columns until Llama-3."""
    for i in range(shards):
        part = {"rope.freqs": torch.ones(4)} if i == 0 else {}
        for name, x in meta_state(state).items():
            short = name.split(".")[-2]
            axis = 1 if short in COLUMNS or (short == "tok_embeddings" and not llama3) else 0
            piece = x if x.ndim == 1 else np.split(x, shards, axis)[i]
            part[name] = torch.tensor(np.ascontiguousarray(piece))
        torch.save(part, folder / f"consolidated.{i:02}.pth")
    (folder / "params.json").write_text(json.dumps(params))
    return folder


@pytest.fixture(scope="module")
def state():
    return to_hf(params_of(CFG), CFG)


@pytest.mark.parametrize(("shards", "llama3"), [(1, False), (2, False), (4, False), (2, True), (4, True), (8, False)])
def test_parts_are_joined(tmp_path, state, shards, llama3):
    # 8 parts of 4 key heads: half a head in each, as nothing that we read needs whole ones
    meta = MetaFolder(write(tmp_path, state, shards, llama3))
    assert meta.shapes() == {name: x.shape for name, x in state.items()}
    for name, x in state.items():
        np.testing.assert_array_equal(meta.read(name), x)
        for rows in (slice(0, 0), slice(1, 2), slice(5, 37), slice(len(x) - 3, len(x))):
            np.testing.assert_array_equal(meta.read(name, rows), x[rows], err_msg=f"{name} {rows}")


def test_configuration(tmp_path, state):
    config = MetaFolder(write(tmp_path, state, 2, params={"model": PARAMS})).config()  # nested, as some are
    assert dataclasses.replace(model_of(config), dtype="float32", head_width=None, trained_len=32) == CFG
    assert method_of(config) == method_of({})


def test_what_only_the_release_tells():
    releases = {
        2048: {"norm_eps": 1e-6},
        4096: {"norm_eps": 1e-5},
        16_384: {"norm_eps": 1e-5, "rope_theta": 1e6},
        8192: {"norm_eps": 1e-5, "rope_theta": 5e5},
        131_072: {"norm_eps": 1e-5, "rope_theta": 5e5, "use_scaled_rope": True},
    }
    assert {meta_trained_len(params): params for params in releases.values()} == releases
    scaled = {"use_scaled_rope": True, "dim": 4096, "n_layers": 32}
    assert rope_scaling(PARAMS) is None
    assert method_of({"rope_scaling": rope_scaling(scaled)}) == llama3(8.0, 1.0, 4.0)
    assert rope_scaling(scaled | {"dim": 2048, "n_layers": 16})["factor"] == 32.0


def test_bad_folders_are_named(tmp_path, state):
    write(tmp_path, state, 2)
    path = tmp_path / "consolidated.01.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"consolidated\.01\.pth is damaged"):
        MetaFolder(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"consolidated\.01\.pth is missing: the model is in 2 files"):
        MetaFolder(tmp_path)
    torch.save({"norm.weight": torch.ones(64)}, path)
    with pytest.raises(ValueError, match=r"consolidated\.01\.pth does not hold the same tensors"):
        MetaFolder(tmp_path)
    (tmp_path / "params.json").write_text('{"dim": 64}')
    with pytest.raises(ValueError, match=r"params\.json is missing or damaged"):
        MetaFolder(tmp_path)


def test_a_file_too_many_is_noticed(tmp_path, state):
    write(tmp_path, state, 1)
    (tmp_path / "consolidated.01.pth").write_bytes((tmp_path / "consolidated.00.pth").read_bytes())
    with pytest.raises(ValueError, match=r"has 2 consolidated\.\*\.pth files, but the model is in 1"):
        MetaFolder(tmp_path)


@pytest.mark.parametrize("change", [{"sliding_window": 4096}, {"moe": {"num_experts": 8}}, {"head_dim": 5}])
def test_settings_that_are_not_read_are_refused_by_name(tmp_path, state, change):
    folder = write(tmp_path, state, 1, params=PARAMS | change)
    with pytest.raises(ValueError, match=rf"params\.json: {next(iter(change))} not supported"):
        MetaFolder(folder)
