"""longjax against golden vectors of the peers: a subset always, the full sets where they are and are asked for."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tools import check_golden

HERE = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "golden"
SETS = [HERE / "exact", HERE / "approx"]
if os.environ.get("LONGJAX_FULL_GOLDEN") == "1":
    SETS += [SHARED / "exact", SHARED / "approx"]


@pytest.mark.parametrize("folder", [folder for folder in SETS if folder.exists()], ids=lambda path: str(path)[-24:])
def test_every_case_passes(folder):
    results = check_golden.check(folder)
    assert [result for result in results if not check_golden.passed(result)] == []


@pytest.fixture
def copied(tmp_path):
    """A few fast files of the exact subset, and a way to change one."""
    for stem in ("freqs_pi", "lr_schedules", "bias_alibi_t5"):
        for path in (HERE / "exact").glob(f"{stem}.*"):
            shutil.copy(path, tmp_path)

    def change(stem, fields=None, arrays=None):
        path = tmp_path / f"{stem}.json"
        listing = json.loads(path.read_text())
        if fields:
            fields(listing["cases"][0])
        path.write_text(json.dumps(listing))
        if arrays:
            held = dict(np.load(path.with_suffix(".npz")))
            arrays(held, listing["cases"][0]["case_id"])
            np.savez(path.with_suffix(".npz"), **held)

    return tmp_path, change


def test_untouched_copy_passes(copied):
    assert check_golden.main([copied[0]]) == 0


def corrupt(held, case):
    held[f"{case}/cos"][3, 1] += 1e-4


def forget(held, case):
    del held[f"{case}/cos"]


def not_a_number(held, case):
    held[f"{case}/cos"][0, 0] = np.nan


def surplus(held, case):
    held[f"{case}/more"] = np.zeros(3)


def nobodys(held, case):
    held["nobody/cos"] = np.zeros(3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (corrupt, "freqs_pi/pi.* cos: 0.0001"), (forget, "no array cos"), (not_a_number, "cos: not finite"),
        (surplus, "more is not announced"), (nobodys, "arrays of no case: nobody/cos"),
    ],
)  # fmt: skip
def test_damaged_arrays_are_named(copied, arrays, said, capsys):
    folder, change = copied
    change("freqs_pi", arrays=arrays)
    assert check_golden.main([folder]) == 1
    printed = capsys.readouterr().out
    assert all(word in printed for word in said.split("* ")), printed


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (lambda case: case.update(family="mystery"), "mystery"),
        (lambda case: case.update(new_option=3), "new_option was not looked at"),
        (lambda case: case.update(factor=9.0), "eff_inv_freq"),
        (lambda case: case.pop("seq_len"), "seq_len"),
    ],
)  # fmt: skip
def test_other_fields_are_named(copied, fields, said, capsys):
    folder, change = copied
    change("freqs_pi", fields)
    assert check_golden.main([folder]) == 1
    assert said in capsys.readouterr().out


def test_unknown_file_fails(copied, capsys):
    (copied[0] / "surprise.npz").write_bytes(b"")
    assert check_golden.main([copied[0]]) == 1
    assert "surprise.npz: unknown file" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["missing", "."])
def test_nothing_to_check(tmp_path, name, capsys):
    assert check_golden.main([tmp_path / name]) == 2
    assert capsys.readouterr().err.count("\n") == 1
