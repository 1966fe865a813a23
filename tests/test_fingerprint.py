"""A checkpoint's fingerprint is that of its content: every byte of every file, and the files' names."""

import numpy as np

from longjax.checkpoints.fingerprint import checkpoint_fingerprint


def test_any_byte_changes_it(tmp_path):
    path = tmp_path / "a" / "model.safetensors"
    path.parent.mkdir()
    content = np.random.default_rng(0).integers(0, 256, 1_000_000, np.uint8)
    path.write_bytes(content.tobytes())
    before = checkpoint_fingerprint(path.parent)
    for at in (0, 5_000, 70_001, 999_999):
        changed = content.copy()
        changed[at] ^= 0x80
        path.write_bytes(changed.tobytes())
        assert checkpoint_fingerprint(path.parent) != before
    path.write_bytes(content.tobytes())
    assert checkpoint_fingerprint(path.parent) == before
    assert checkpoint_fingerprint(path.parent, None) == before


def test_names_of_files_count_and_that_of_the_folder_does_not(tmp_path):
    for folder, name in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"1")
    a, b, c = (checkpoint_fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c
