"""What the golden check of approximate attention must notice; tests/test_golden.py runs it on the numbers."""

from pathlib import Path

import numpy as np

from golden_checks import approx

HERE = Path(__file__).parent / "golden" / "approx"


def broken(tmp_path, name="sliding_window_attn", meta=None, **arrays):
    """The results of a golden file with some arrays replaced (None: removed)."""
    with np.load(HERE / f"{name}.npz") as file:
        old = {key: file[key] for key in file.files}
    new = {key: x for key, x in (old | arrays).items() if x is not None}
    np.savez(tmp_path / "case.npz", **new | ({"meta": meta} if meta else {}))
    return list(approx.results(tmp_path))


def test_the_golden_check_can_fail(tmp_path):
    with np.load(HERE / "sliding_window_attn.npz") as file:
        out, meta = file["out"], str(file["meta"])
    for change, note in [
        ({"out": None}, "missing array out"),
        ({"surprise": out}, "nothing computes surprise"),
        ({"out": out[:, :-1]}, "shape"),
        ({"meta": meta.replace("sliding_window", "sliding_door")}, "KeyError"),
        ({"out": out + 1e-4}, "dense"),
        ({"out": np.where(out == out.max(), np.nan, out)}, "dense"),
        ({"meta": meta.replace('"window": 16', '"window": 15')}, "dense"),
    ]:
        failed = [r.note for r in broken(tmp_path, **change) if not r.error <= r.tolerance]
        assert any(note in text for text in failed), (note, failed)
