"""Safetensors: what is read is what was written, row by row, and nothing that is damaged is believed."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from longjax.checkpoints import safetensors
from longjax.checkpoints.safetensors import INDEX, SafetensorsFolder
from peers import peer

RNG = np.random.default_rng(0)
TENSORS = {
    "a.weight": RNG.standard_normal((6, 5)).astype(np.float32),
    "b.weight": RNG.standard_normal((4, 3)).astype(jnp.bfloat16),
    "c.scalar": np.float16(3.5).reshape(()),
    "d.empty": np.zeros((0, 7), np.int64),
    "e.flags": np.array([True, False, True]),
}


@pytest.fixture
def folder(tmp_path):
    safetensors.write_safetensors(tmp_path / "model.safetensors", TENSORS)
    return tmp_path


def edited(path, change):
    """Rewrites the header of a file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    change(header)
    said = json.dumps(header).encode()
    path.write_bytes(len(said).to_bytes(8, "little") + said + data[start:])


def test_all_comes_back_to_the_bit(folder):
    tensors = SafetensorsFolder(folder)
    assert tensors.shapes() == {name: x.shape for name, x in TENSORS.items()}
    for name, x in TENSORS.items():
        got = tensors.read(name)
        assert got.dtype == x.dtype
        assert got.tobytes() == x.tobytes()


@pytest.mark.parametrize("rows", [slice(0, 0), slice(1, 4), slice(4, None), slice(None, 2), slice(2, 100)])
def test_rows_are_those_of_numpy(folder, rows):
    got = SafetensorsFolder(folder).read("a.weight", rows)
    np.testing.assert_array_equal(got, TENSORS["a.weight"][rows])
    assert got.dtype == np.float32


def test_only_the_rows_are_read(folder, monkeypatch):
    tensors, read = SafetensorsFolder(folder), []
    monkeypatch.setattr(safetensors, "pread", lambda path, at, count: read.append(count) or np.zeros(count, np.uint8))
    tensors.read("a.weight", slice(1, 3))
    assert read == [2 * 5 * 4]


def test_the_reference_implementation_agrees(folder):
    reference = peer("safetensors.numpy")
    for name, x in reference.load_file(folder / "model.safetensors").items():
        if x.dtype == TENSORS[name].dtype:  # older releases have no bfloat16 for NumPy
            np.testing.assert_array_equal(x, TENSORS[name])


def test_an_index_says_where_tensors_are(tmp_path):
    """Of two files with the same name in them, the index decides."""
    safetensors.write_safetensors(
        tmp_path / "one.safetensors", {"x": np.zeros(2, np.float32), "y": np.ones(3, np.float32)}
    )
    safetensors.write_safetensors(tmp_path / "two.safetensors", {"x": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match=r"x is in .*one\.safetensors and in .*two\.safetensors"):
        SafetensorsFolder(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": "two.safetensors", "y": "one.safetensors"}}))
    np.testing.assert_array_equal(SafetensorsFolder(tmp_path).read("x"), np.ones(2))
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(ValueError, match=r"two\.safetensors is missing"):
        SafetensorsFolder(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": "one.safetensors", "z": "one.safetensors"}}))
    with pytest.raises(ValueError, match=r"index\.json lists z in one\.safetensors, which lacks it"):
        SafetensorsFolder(tmp_path)
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1])
def test_torn_files_are_named(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or no safetensors file") as error:
        SafetensorsFolder(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h["a.weight"].update(shape=[6, 6]), r"a\.weight of shape \[6, 6\]"),
        (lambda h: h["a.weight"].update(dtype="F8_E4M3"), "of type F8_E4M3"),
        (lambda h: h["a.weight"].pop("data_offsets"), "data_offsets"),
        (lambda h: h["b.weight"].update(data_offsets=[1000, 1024]), "where its header has"),
        (lambda h: h["a.weight"].update(data_offsets=[-120, 0]), r"a\.weight of shape"),
    ],
    ids=["shape", "type", "key", "beyond", "before"],
)
def test_headers_that_do_not_fit(folder, change, said):
    edited(folder / "model.safetensors", change)
    with pytest.raises(ValueError, match=said):
        SafetensorsFolder(folder)


def test_a_file_that_shrinks_while_it_is_read(folder):
    tensors = SafetensorsFolder(folder)
    size = (folder / "model.safetensors").stat().st_size
    os.truncate(folder / "model.safetensors", size - 1)
    with pytest.raises(ValueError, match=rf"model\.safetensors is damaged: it ends at byte {size - 1}"):
        tensors.read("e.flags")


def test_a_full_disk_leaves_the_older_file(folder):
    old = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors.new").symlink_to("/dev/full")  # every write fails as on a full disk
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be written: No space left on device"):
        safetensors.write_safetensors(folder / "model.safetensors", {"x": np.zeros(3, np.float32)})
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == old


def test_one_file_comes_before_an_index(folder):
    whole = SafetensorsFolder(folder).shapes()
    safetensors.write_safetensors(folder / "older.safetensors", {"x": np.ones(2, np.float32)})
    (folder / INDEX).write_text(json.dumps({"weight_map": {"x": "older.safetensors"}}))
    assert SafetensorsFolder(folder).shapes() == whole


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "a/b", "..", ".", "", "a\0b", 5, None, ["a"]])
def test_an_index_names_files_beside_it_alone(tmp_path, file):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": file}}))
    with pytest.raises(ValueError, match="which should hold x, is no file beside it"):
        SafetensorsFolder(tmp_path)


def test_deep_json_and_pipes_are_one_line(tmp_path):
    deep = "[" * 100_000
    (tmp_path / INDEX).write_text(deep)
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        SafetensorsFolder(tmp_path)
    whole = tmp_path / "model.safetensors"
    whole.write_bytes(len(deep).to_bytes(8, "little") + deep.encode())
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        SafetensorsFolder(tmp_path)
    whole.unlink()
    os.mkfifo(whole)
    with pytest.raises(ValueError, match=r"model\.safetensors is missing"):
        SafetensorsFolder(tmp_path)
