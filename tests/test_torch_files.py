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
