"""Files of torch.save: read tensor by tensor, and refused with their name."""

import importlib.util
import json

import jax.numpy as jnp
import numpy as np
import pytest

from longjax.checkpoints.torch_files import TorchFile, TorchFolder
from peers import peer

torch = peer("torch")
HELD = {
    "a": torch.arange(12.0).reshape(4, 3).bfloat16(), "b": torch.arange(6).half().reshape(2, 3).T, "c": torch.ones(2),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Two files and their index."""
    where = {}
    for name, keys in {"pytorch_model-00001-of-00002.bin": "ab", "pytorch_model-00002-of-00002.bin": "c"}.items():
        torch.save({key: HELD[key] for key in keys}, tmp_path / name)
        where |= dict.fromkeys(keys, name)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    return tmp_path


def same(tensors):
    assert tensors.shapes() == {"a": (4, 3), "b": (3, 2), "c": (2,)}
    for name, x in HELD.items():
        got = tensors.read(name)
        assert got.dtype == (jnp.bfloat16 if name == "a" else x.numpy().dtype)
        np.testing.assert_array_equal(got.astype(np.float32), x.float().numpy())
        np.testing.assert_array_equal(tensors.read(name, slice(1, 2)), got[1:2])
        assert got.flags.owndata or got.base.flags.owndata  # not the file's pages


def test_several_files(folder):
    same(TorchFolder(folder))


def test_one_file(tmp_path):
    torch.save(HELD, tmp_path / "pytorch_model.bin")
    same(TorchFolder(tmp_path))
    same(TorchFile(tmp_path / "pytorch_model.bin"))


def test_a_lost_file_is_named(folder):
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(ValueError, match=r"pytorch_model-00002-of-00002\.bin is missing"):
        TorchFolder(folder)


@pytest.mark.parametrize("keep", [0, 5, 400, -1])
def test_a_torn_file_is_named(folder, keep):
    path = folder / "pytorch_model-00001-of-00002.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"pytorch_model-00001-of-00002\.bin is damaged") as error:
        TorchFolder(folder)
    assert "\n" not in str(error.value)


def test_an_index_of_another_model_is_named(folder):
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(index.read_text().replace('"c"', '"d"'))
    with pytest.raises(ValueError, match=r"index\.json lists d in pytorch_model-00002"):
        TorchFolder(folder)
    index.write_text("{")
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        TorchFolder(folder)


def test_nothing_but_tensors_is_let_out(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": importlib.util.find_spec}, path)
    with pytest.raises(ValueError, match="holds more than tensors"):
        TorchFile(path)
    torch.save({"step": 3}, path)
    with pytest.raises(ValueError, match="does not hold tensors by name"):
        TorchFile(path)


def test_without_torch_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"bin needs torch to be read: pip install torch"):
        TorchFolder(folder)


def test_parameters_and_wrapped_tensors_are_read(tmp_path):
    torch.save(
        {"state_dict": {name: torch.nn.Parameter(x) for name, x in HELD.items()}}, tmp_path / "pytorch_model.bin"
    )
    same(TorchFolder(tmp_path))


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, "a is of type float8_e4m3fn: convert the weights"),
        ({"a": torch.ones(2).to(torch.complex64)}, "a is of type complex64"),
        ({"a": torch.ones(2).to_sparse()}, "a is sparse or expanded"),
        ({"a": torch.zeros(1).expand(10**11)}, "a is sparse or expanded"),
        ({1: torch.ones(2)}, "does not hold tensors by name"),
    ],
    ids=["float8", "complex", "sparse", "expanded", "numbers for names"],
)
def test_what_is_no_dense_tensor_of_floats_is_named(tmp_path, tensors, match):
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=match):
        TorchFolder(tmp_path)


def test_one_file_comes_before_an_index(folder):
    torch.save({"a": HELD["c"]}, folder / "pytorch_model.bin")
    assert TorchFolder(folder).shapes() == {"a": (2,)}
