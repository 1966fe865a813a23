import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from longjax.report.stats import bootstrap
from longjax.report.stats.bootstrap import mean_of, paired
from longjax.report.stats.paired import (
    compare_runs,
    comparison_csv,
    comparison_table,
    records_of_run,
    small_sample_warnings,
)
from made_runs import answers, windows, write_run

ROOT = pathlib.Path(__file__).parent.parent
QA, LCC = "longbench/hotpotqa", "longbench/qasper"


def tasks(**by_name):
    """-> records by task and index."""
    return {name.replace("__", "/"): {r["index"]: r for r in records} for name, records in by_name.items()}


# The statistic.


def test_a_constant_difference_is_certain():
    """Paired, every resample has the same difference, however much the examples differ."""
    a = np.random.default_rng(0).normal(size=30)
    found = paired(a, a + 0.25, resamples=1000)
    assert found.difference == pytest.approx(0.25)
    assert found.interval == pytest.approx((0.25, 0.25))
    assert found.p == pytest.approx(2 / 1001)  # no resample on the other side; finite resamples never say 0


def test_no_difference_has_p_one():
    found = paired([0, 1, 1, 0], [0, 1, 1, 0])
    assert (found.difference, found.interval, found.p) == (0, (0, 0), 1)


def test_the_interval_is_that_of_the_mean():
    """Of 400 differences it is the mean +- 1.96 standard errors, to 5 % of its width (resamples: 10 000)."""
    rng = np.random.default_rng(1)
    a, d = rng.normal(size=400), rng.normal(0.1, 1, 400)
    found = paired(a, a + d)
    half = 1.96 * d.std() / 20
    np.testing.assert_allclose(found.interval, [d.mean() - half, d.mean() + half], atol=0.1 * half)


def test_p_agrees_with_the_interval():
    """At the difference where the interval ends at 0, p is 0.05: both read the same resamples."""
    d = np.random.default_rng(2).normal(0, 1, 200)
    low, _ = paired(np.zeros(200), d).interval
    assert paired(np.zeros(200), d - low).p == pytest.approx(0.05, abs=0.002)


def test_examples_of_a_cluster_are_no_new_evidence():
    d = np.random.default_rng(3).normal(0.1, 1, 50)
    once, again = paired(np.zeros(50), d), np.repeat(d, 9)
    clustered = paired(np.zeros(450), again, cluster=np.repeat(np.arange(50), 9).tolist())
    naive = paired(np.zeros(450), again)
    assert clustered.clusters == 50
    np.testing.assert_allclose(clustered.interval, once.interval, rtol=1e-12)
    assert np.ptp(naive.interval) < 0.5 * np.ptp(once.interval)


def test_weights_and_perplexity():
    """exp of the weighted mean; a window of twice the weight counts twice."""
    found = paired([1.0, 2.0], [1.5, 2.0], weight=[2, 1], transform=np.exp, resamples=200)
    assert (found.a, found.b) == pytest.approx((np.exp(4 / 3), np.exp(5 / 3)))
    draws = set(np.round(found.draws_M, 9))
    assert draws == {round(x, 9) for x in (0.0, np.exp(1.5) - np.exp(1), np.exp(5 / 3) - np.exp(4 / 3))}


def test_large_tasks_are_drawn_in_parts(monkeypatch):
    a, b = np.random.default_rng(4).normal(size=(2, 60))
    monkeypatch.setattr(bootstrap, "MAX_DRAWS", 700)
    found = paired(a, b, resamples=1001)
    assert len(found.draws_M) == 1001
    half = 1.96 * (b - a).std() / np.sqrt(60)
    np.testing.assert_allclose(found.interval, (b - a).mean() + np.array([-half, half]), atol=0.2 * half)


def test_the_mean_of_tasks_weighs_them_alike():
    parts = [paired([0.0] * 4, [1.0, 1, 1, 0]), paired([0.0] * 40, [0.25] * 40)]
    found = mean_of(parts)
    assert (found.a, found.b, found.n) == (0, 0.5, 44)
    assert found.interval[0] == pytest.approx((parts[0].interval[0] + 0.25) / 2)


# Records.


def test_runs_are_matched_by_example():
    a = tasks(**{QA: answers(QA, 10), LCC: answers(LCC, 20), "longbench/musique": answers("longbench/musique", 1)})
    b = tasks(**{QA: answers(QA, 30, n=38)[::-1], LCC: answers(LCC, 20)})
    first, second, mean = found = compare_runs(a, b)
    assert small_sample_warnings(found) == []
    assert [first.task, second.task, mean.task] == [QA, LCC, "longbench, mean of 2"]
    assert (first.result.n, first.unmatched) == (38, 2)
    assert (first.result.a, first.result.b) == pytest.approx((10 / 38, 30 / 38))
    assert second.result.p == 1
    assert first.result.p < 0.001
    assert mean.result.difference == pytest.approx(first.result.difference / 2)


def test_other_prompts_are_refused():
    a, b = (tasks(**{QA: answers(QA, 10)}) for _ in "ab")
    b[QA][7]["prompt_sha256"] = "0" * 64
    with pytest.raises(ValueError, match=f"{QA}, example 7: --a and --b have different prompts"):
        compare_runs(a, b)


def test_nothing_in_common_is_an_error():
    with pytest.raises(ValueError, match="no example has a number in both"):
        compare_runs(tasks(**{QA: answers(QA, 1)}), tasks(**{LCC: answers(LCC, 1)}))


def test_perplexity_is_drawn_by_piece_and_nan_is_unmatched():
    name = "perplexity/nested/made/128"
    a, b = tasks(**{name: windows(2.0)}), tasks(**{name: windows(1.9)})
    b[name][3]["nll"] = None
    (one,) = compare_runs(a, b)
    assert (one.result.n, one.unmatched, one.result.clusters) == (11, 1, 3)
    assert small_sample_warnings([one]) == [
        f"intervals too narrow, as there are fewer than 10 examples or pieces: {name}"
    ]
    kept = [r["nll"] / r["n"] for i, r in a[name].items() if i != 3]
    assert one.result.a == pytest.approx(np.exp(np.mean(kept)))
    assert one.result.b / one.result.a == pytest.approx(np.exp(-0.1))


def test_the_table_holds_the_numbers():
    found = compare_runs(tasks(**{QA: answers(QA, 10)}), tasks(**{QA: answers(QA, 30)}))
    head, row = comparison_table(found)
    assert dict(zip(head, row, strict=True)) | {"95 % interval": ""} == {
        "task": QA, "n": "40", "unmatched": "0", "a": "25.0", "b": "75.0", "b - a": "+50.0", "95 % interval": "",
        "p": "<0.001*",
    }  # fmt: skip
    values = comparison_csv(found).splitlines()[1].split(",")
    assert [float(x) for x in values[4:7]] == [0.25, 0.75, 0.5]


# The tool.


def test_the_tool(tmp_path):
    a = write_run(tmp_path / "a", "pi", tasks={QA: answers(QA, 10), LCC: answers(LCC, 20)})
    b = write_run(tmp_path / "b", "yarn", tasks={QA: answers(QA, 30)})
    command = [sys.executable, "-m", "tools.compare", f"--a={a}", f"--b={b}", "--resamples=500"]
    done = subprocess.run([*command, f"--out={tmp_path / 'out'}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "only in --a: longbench/qasper" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert f"| {QA} | 40 | 0 | 25.0 | 75.0 | +50.0 |" in (tmp_path / "out" / "compare.md").read_text()
    assert (tmp_path / "out" / "compare.csv").read_text().startswith("task,n,clusters,unmatched,a,b,difference")
    failed = subprocess.run([*command, "--tasks=ruler"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip() == f"error: --tasks=ruler leaves nothing of --a: it has {QA}, {LCC}"


def test_a_folder_must_hold_one_run(tmp_path):
    with pytest.raises(ValueError, match=r"^--a=\S+ holds no run \(run.json\): give the folder of an evaluation"):
        records_of_run(tmp_path / "missing", "a")
    write_run(tmp_path / "pi", "pi", tasks={QA: answers(QA, 10)})
    assert len(records_of_run(tmp_path, "a")[QA]) == 40  # the only run below it
    write_run(tmp_path / "yarn", "yarn", tasks={QA: answers(QA, 30)})
    with pytest.raises(ValueError, match=r"^--b=\S+ holds 2 runs, pi, yarn: give one of them, --b=\S+/pi$"):
        records_of_run(tmp_path, "b")


def test_an_empty_run_is_named(tmp_path):
    run = write_run(tmp_path / "a", "pi", tasks={})
    with pytest.raises(ValueError, match=r"--a=.* has no records.jsonl"):
        records_of_run(run, "a")


def test_what_a_crash_tore_is_left_out(tmp_path):
    run = write_run(tmp_path / "a", "pi", tasks={QA: answers(QA, 10)})
    with (run / QA / "records.jsonl").open("a") as file:
        file.write(json.dumps(answers(QA, 1, n=1)[0])[:40])
    assert len(records_of_run(run, "a")[QA]) == 40
