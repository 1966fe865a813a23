import math

import matplotlib.image
import numpy as np
import pytest

from longjax.report.plotting import style, training_curves
from longjax.training import metrics_writer


def test_a_picture_of_two_runs(tmp_path):
    for name in ("pi", "yarn"):
        with metrics_writer.MetricsWriter(tmp_path / "methods" / name) as log:
            for step in range(40):
                odd = name == "pi" and step == 7
                log(
                    step,
                    {
                        "loss": math.nan if odd else 3 - step / 40 - (name == "yarn"),
                        "grad_norm": 1.0,
                        "skipped": int(odd),
                    },
                )
    folders = [tmp_path / "methods" / name for name in ("pi", "yarn")]
    training_curves.training_curves(folders, tmp_path / "curves.png")
    image = matplotlib.image.imread(tmp_path / "curves.png")
    assert min(image.shape[:2]) > 500
    for color in style.COLORS[:2]:  # both runs are to be seen
        rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (np.abs(image[..., :3] - rgb).max(-1) < 0.02).sum() > 300


def test_runs_are_named_by_what_differs(tmp_path):
    assert training_curves.run_names([tmp_path / "a" / "methods" / "pi", tmp_path / "b" / "methods" / "pi"]) == [
        "a",
        "b",
    ]
    assert training_curves.run_names([tmp_path / "methods" / "pi", tmp_path / "methods" / "yarn"]) == ["pi", "yarn"]
    assert training_curves.run_names([tmp_path / "pi"]) == ["pi"]


def test_means_leave_out_what_is_no_number():
    np.testing.assert_allclose(training_curves.running_mean(np.array([1.0, math.nan, 3.0, 5.0]), 2), [1, 1, 3, 4])
    steps = [{"skipped": 0.0}, {"skipped": 1.0}, {"skipped": 1.0}, {"skipped": 2.0}]
    assert training_curves.skipped_steps(steps).tolist() == [False, True, False, True]


def test_a_run_without_steps_is_named(tmp_path):
    metrics_writer.MetricsWriter(tmp_path).__exit__()
    with pytest.raises(ValueError, match="no step has been logged yet"):
        training_curves.training_curves([tmp_path], tmp_path / "curves.png")
