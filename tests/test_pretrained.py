"""Checkpoints into arrays and back: every family and format, on one device and on eight, to the bit."""

import collections
import dataclasses
import errno
import json
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from in_memory import InMemory
from longjax import files, sharding
from longjax.checkpoints import hf_writer, layerwise, orbax_params, param_mapping, pretrained, safetensors
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.loader import OnHost, reorder_axes
from longjax.checkpoints.pretrained import ExportOptions, ModelTensors
from longjax.config import TINY
from longjax.methods import METHODS, lora
from longjax.methods.method import Method, unchanged_weights
from longjax.methods.sliding_window import SlidingWindowAttention
from longjax.progress import no_progress
from peers import peer
from shape_names import checked
from test_pretrained_export import CFG, parameters

CASES = pathlib.Path(__file__).parent / "golden" / "convert"
NAMES = sorted(path.name for path in CASES.iterdir())
LLAMA = CASES / "llama_bf16_sharded" / "hf"
every_case = pytest.mark.parametrize("name", NAMES)


def opened(name):
    case = CASES / name
    if any(path.suffix in (".bin", ".pth") for path in case.rglob("*")):
        peer("torch")
    adapter = case / "adapter"
    folder = next(path for path in (case / "hf", case / "meta") if path.exists())
    return pretrained.open_checkpoint(folder, str(adapter) if adapter.exists() else None)


def assert_same_bits(got, want):
    assert got.shapes() == want.shapes()
    for name in want.shapes():
        x, y = got.read(name), want.read(name)
        assert x.dtype == y.dtype
        assert x.tobytes() == y.tobytes(), name


@every_case
def test_export_has_the_same_bits_and_settings(name, tmp_path):
    given = opened(name)
    want = ModelTensors(given.tensors, given.cfg)
    pretrained.write_checkpoint(tmp_path, want, given.cfg, given.method, given, {}, ExportOptions("source"))
    again = pretrained.open_checkpoint(tmp_path)
    assert (again.cfg, again.method) == (given.cfg, given.method)
    assert_same_bits(again.tensors, want)


@pytest.mark.parametrize("name", ["llama_bf16_sharded", "llama_tied_fp16", "mpt", "phi", "qwen2_tied_yarn"])
def test_arrays_are_exported_with_the_same_bits(name, tmp_path):
    given = opened(name)
    params = pretrained.load(given.tensors, given.cfg)
    pretrained.export(tmp_path, params, given.cfg, given.method, given, ExportOptions("source"))
    again = pretrained.open_checkpoint(tmp_path)
    assert (again.cfg, again.method) == (given.cfg, given.method)
    assert_same_bits(again.tensors, ModelTensors(given.tensors, given.cfg))


@pytest.mark.parametrize("name", ["llama_bf16_sharded", "mpt", "phi", "qwen2_tied_yarn", "lora_rs_patterns"])
def test_orbax_and_back_has_the_same_bits(name, tmp_path):
    given = opened(name)
    want = ModelTensors(given.tensors, given.cfg)
    extra = {"tokenizer.model": b"bytes"}
    orbax_params.write_orbax(tmp_path, given.tensors, given.cfg, given.config, extra, no_progress)
    again = pretrained.open_checkpoint(tmp_path)
    assert (again.cfg, again.method, again.config) == (given.cfg, given.method, given.config)
    assert_same_bits(again.tensors, want)
    pretrained.write_checkpoint(
        tmp_path / "hf", again.tensors, again.cfg, again.method, again, {}, ExportOptions("source")
    )
    assert (tmp_path / "hf" / "tokenizer.model").read_bytes() == b"bytes"
    assert_same_bits(pretrained.open_checkpoint(tmp_path / "hf").tensors, want)
    with pytest.raises(ValueError, match="already holds orbax parameters"):
        orbax_params.write_orbax(tmp_path, given.tensors, given.cfg, given.config, {}, no_progress)


@pytest.mark.parametrize("name", ["llama_bf16_sharded", "mpt", "phi", "qwen2_tied_yarn"])
def test_eight_devices_hold_what_one_does(name):
    given, mesh = opened(name), sharding.make_mesh(data=1, fsdp=2, seq=2, model=2)
    alone = pretrained.load(given.tensors, given.cfg)
    with checked("longjax"):
        spread = pretrained.load(given.tensors, given.cfg, mesh)
    assert spread.keys() == alone.keys()
    for leaf, x in spread.items():
        assert x.sharding.spec == sharding.partition_spec(leaf, x.shape, mesh)
        np.testing.assert_array_equal(x, alone[leaf])
    assert any(len({str(shard.index) for shard in x.addressable_shards}) == 8 for x in spread.values())
    back = OnHost(spread, unchanged_weights).tensors(given.cfg)
    assert_same_bits(back, hf_writer.Cast(ModelTensors(given.tensors, given.cfg), np.dtype("f4")))


@dataclasses.dataclass
class Counted:
    """Tensors that count how often each row is read."""

    inner: object
    rows: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def shapes(self):
        return self.inner.shapes()

    def read(self, name, rows=slice(None)):
        self.rows.update((name, row) for row in range(*rows.indices(self.shapes()[name][0])))
        return self.inner.read(name, rows)


@pytest.mark.parametrize("name", ["llama", "mpt", "phi"])
def test_every_row_is_read_once(name):
    given = opened(name)
    counted = Counted(given.tensors)
    pretrained.load(counted, given.cfg, sharding.make_mesh(fsdp=2, seq=2, model=2))
    shapes = ModelTensors(given.tensors, given.cfg).shapes()
    assert counted.rows == dict.fromkeys(((name, row) for name, shape in shapes.items() for row in range(shape[0])), 1)


@pytest.mark.parametrize("name", ["llama", "mpt"])
def test_a_part_of_a_leaf_is_that_part(name):
    """What one of several hosts reads."""
    given = opened(name)
    for leaf in layerwise.leaves(given.cfg):
        whole = layerwise.read_stored(given.tensors, leaf, given.cfg)
        some = slice(len(whole) // 3, len(whole) // 3 * 2)
        np.testing.assert_array_equal(layerwise.read_stored(given.tensors, leaf, given.cfg, some), whole[some])


def test_half_precision_is_widened_exactly():
    """All of its finite numbers, those too small to be normal included."""
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16)
    bits = np.where(np.isfinite(bits), bits, np.float16(0)).reshape(512, 128)
    x = reorder_axes(jnp.asarray(bits), (1, 0), jnp.dtype(jnp.float32))
    np.testing.assert_array_equal(x, bits.T.astype(np.float32))


def test_adapters_are_merged_as_they_are_used(tmp_path):
    method = METHODS["longlora"]()
    params = parameters(method)
    merged = lora.merge(jax.tree.map(jnp.asarray, params), method.adapt)
    got = OnHost(params, method.adapt).tensors(CFG)
    want = OnHost(merged, unchanged_weights).tensors(CFG)
    for name in want.shapes():
        np.testing.assert_allclose(got.read(name), want.read(name), atol=1e-6)  # one product, compiled twice
    assert not np.allclose(got.read("model.layers.0.self_attn.q_proj.weight"), params["q_DNH"][0].reshape(64, -1).T)
    pretrained.export(tmp_path, params, CFG, method)
    assert not (tmp_path / "longjax.safetensors").exists()


def test_a_window_goes_or_stays_with_the_method(tmp_path):
    """PI on a Mistral with a window keeps it; full attention takes it away."""
    given = opened("mistral_window")
    assert isinstance(given.method.attention, SlidingWindowAttention)
    methods = {
        "pi": on_base(METHODS["pi"](2.0), given.method),
        "full": dataclasses.replace(given.method, rope=METHODS["pi"](2.0).rope),
    }
    methods["full"] = dataclasses.replace(methods["full"], attention=Method().attention)
    for name, method in methods.items():
        tensors = ModelTensors(given.tensors, given.cfg)
        assert pretrained.write_checkpoint(tmp_path / name, tensors, given.cfg, method, given, {}) == []
        again = pretrained.open_checkpoint(tmp_path / name)
        assert (again.method.rope, again.method.attention) == (method.rope, method.attention)


def test_a_vocabulary_that_grew_is_carried(tmp_path):
    method = METHODS["landmark"](block=8)
    cfg = dataclasses.replace(CFG, vocab=CFG.vocab + 1)
    params = parameters(Method()) | {
        "embed_VD": np.ones((cfg.vocab, cfg.dim)),
        "unembed_DV": np.ones((cfg.dim, cfg.vocab)),
    }
    (note,) = pretrained.export(tmp_path, params, cfg, method)
    assert "lacks the attention of LandmarkInference" in note
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == cfg.vocab
    assert pretrained.open_checkpoint(tmp_path).cfg.vocab == cfg.vocab


def test_files_for_text_are_copied_and_older_weights_go(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(LLAMA, source)
    for name in hf_writer.TEXT_FILES:
        (source / name).write_bytes(name.encode())
    given = pretrained.open_checkpoint(source)
    tensors, out = ModelTensors(given.tensors, given.cfg), tmp_path / "out"
    pretrained.write_checkpoint(out, tensors, given.cfg, given.method, given, {}, ExportOptions(max_file_bytes=3_000))
    count = len(list(out.glob("model-*.safetensors")))
    assert count > 2
    for path in out.glob("model-*.safetensors"):
        held = [x.nbytes for x in safetensors.read_safetensors(path).values()]
        assert sum(held) <= 3_000 or len(held) == 1
    assert_same_bits(pretrained.open_checkpoint(out).tensors, tensors)
    for name in hf_writer.TEXT_FILES:
        assert (out / name).read_bytes() == name.encode()
    (out / "model-00001-of-00009.safetensors.new").touch()  # of an export that was killed
    pretrained.write_checkpoint(out, tensors, given.cfg, given.method, given, {})
    assert [path.name for path in out.glob("*.safetensors*")] == ["model.safetensors"]
    assert_same_bits(pretrained.open_checkpoint(out).tensors, tensors)


def test_a_full_disk_leaves_the_older_export(tmp_path):
    given = opened("llama")
    tensors = ModelTensors(given.tensors, given.cfg)
    pretrained.write_checkpoint(tmp_path, tensors, given.cfg, given.method, given, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("model.safetensors", "config.json"):  # the first file and the last
        (tmp_path / f"{name}.new").symlink_to("/dev/full")
        method = METHODS["pi"]()
        with pytest.raises(ValueError, match=r"cannot be written: No space left on device"):
            pretrained.write_checkpoint(tmp_path, hf_writer.Cast(tensors, np.dtype("f2")), given.cfg, method, given, {})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_error_in_the_midst_leaves_nothing(tmp_path):
    def broken():
        with files.atomic_files(tmp_path / "a" / "b") as create:
            create("x").write(b"1")
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert not list((tmp_path / "a" / "b").iterdir())


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: (f / "config.json").unlink(), r".*/config\.json is missing or damaged: name a folder"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json is damaged"),
        (lambda f: [path.unlink() for path in f.glob("*.safetensors*")], r"has no \*\.safetensors file"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), r"\.safetensors is missing"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"torn"), r"\.safetensors is damaged"),
        (lambda f: (f / safetensors.INDEX).write_text("{}"), r"index\.json is damaged"),
        (lambda f: (f / orbax_params.META).write_text("{}"), r"meta\.json is missing or damaged"),
    ],
    ids=["no config", "no settings", "no weights", "no shard", "torn", "index", "meta"],
)
def test_a_damaged_checkpoint_is_one_line(break_it, said, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(LLAMA, folder)
    break_it(folder)
    with pytest.raises(ValueError, match=said) as error:
        pretrained.open_checkpoint(folder)
    assert "\n" not in str(error.value)


def test_torn_orbax_parameters_are_named(tmp_path):
    given = opened("llama")
    orbax_params.write_orbax(tmp_path, given.tensors, given.cfg, given.config, {}, no_progress)
    shutil.rmtree(tmp_path / "params" / "ocdbt.process_0")
    again = pretrained.open_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"params is damaged: .*; convert it again"):
        pretrained.load(again.tensors, again.cfg)


@dataclasses.dataclass
class Failing:
    """Tensors of which one cannot be read."""

    inner: object
    error: Exception

    def shapes(self):
        return self.inner.shapes()

    def read(self, name, rows=slice(None)):
        if "layers.1.mlp" in name and rows != slice(0, 0):
            raise self.error
        return self.inner.read(name, rows)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), r"orbax/params cannot be written: No space left on device$"),
        (ValueError("x.safetensors is damaged"), r"^x\.safetensors is damaged$"),
    ],
    ids=["full", "torn"],
)
def test_orbax_parameters_are_there_whole_or_not_at_all(error, said, tmp_path):
    given = opened("llama")
    with pytest.raises(ValueError, match=said):
        orbax_params.write_orbax(
            tmp_path / "orbax", Failing(given.tensors, error), given.cfg, given.config, {}, no_progress
        )
    assert not list((tmp_path / "orbax").iterdir())


def test_only_a_llama_needs_no_source(tmp_path):
    cfg = dataclasses.replace(TINY, parallel=True, norm="layer", gated=False)
    shapes = {name: param_mapping.hf_shape(members, cfg) for name, members in param_mapping.tensor_members(cfg).items()}
    tensors = InMemory({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    with pytest.raises(ValueError, match="only a LLaMA is exported without the Hugging Face directory"):
        pretrained.write_checkpoint(tmp_path, tensors, cfg, Method(), None, {})
    with pytest.raises(ValueError, match="--dtype=int8 is not known"):
        pretrained.write_checkpoint(tmp_path, tensors, cfg, Method(), None, {}, ExportOptions("int8"))


def test_nothing_of_an_earlier_export_or_of_code_stays(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(LLAMA, source)
    config = json.loads((source / "config.json").read_text())
    length = float(config["max_position_embeddings"])
    (source / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoConfig": "my.Config"}, "max_position_embeddings": length})
    )
    (source / "tokenizer_config.json").write_text('{"model_max_length": 8}')
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_text("x")
    (source / "LICENSE").write_text("terms")
    given = pretrained.open_checkpoint(source)
    tensors = ModelTensors(given.tensors, given.cfg)
    for name in ("longjax.json", "longjax.safetensors"):
        out.mkdir(exist_ok=True)
        (out / name).write_text("{}")
    pretrained.write_checkpoint(out, tensors, given.cfg, METHODS["pi"](factor=2.0), given, {})
    assert not (out / "longjax.json").exists()
    assert not (out / "longjax.safetensors").exists()
    written = json.loads((out / "config.json").read_text())
    assert "auto_map" not in written
    assert type(written["max_position_embeddings"]) is int
    assert json.loads((out / "tokenizer_config.json").read_text())["model_max_length"] == 2 * length
    assert (out / "additional_chat_templates" / "tool_use.jinja").read_text() == "x"
    assert (out / "LICENSE").read_text() == "terms"


@pytest.mark.parametrize("name", ["consolidated.safetensors", "value_head.safetensors", "adapter_model.safetensors"])
def test_files_that_are_not_the_model_s_do_not_count(name, tmp_path):
    torch = peer("torch")
    given = opened("llama")
    shutil.copy(given.folder / "config.json", tmp_path)
    want = {tensor: given.tensors.read(tensor) for tensor in given.tensors.shapes()}
    torch.save(
        {tensor: torch.tensor(x.astype(np.float32)) for tensor, x in want.items()}, tmp_path / "pytorch_model.bin"
    )
    safetensors.write_safetensors(tmp_path / name, {"other.weight": np.zeros(2, np.float32)})
    got = pretrained.open_checkpoint(tmp_path).tensors
    for tensor, x in want.items():
        np.testing.assert_array_equal(got.read(tensor), x.astype(np.float32))
