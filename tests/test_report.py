import json
import pathlib
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from longjax import report
from longjax.evals.records import RECORDS, RUN
from longjax.evals.results import read_rows, task_rows
from longjax.report import tables
from longjax.report.evaluation import figures
from longjax.report.plotting import labels
from longjax.report.rows import evaluations
from longjax.report.single_run import page as single_run
from longjax.report.single_run.findings import findings, significantly_lower
from longjax.report.single_run.page import preferred_weights, study_table, weight_tables
from longjax.report.stats.correlation import ranks
from made_runs import example, write_run
from tools import check_report

LENGTHS = (128, 1024, 2048)
DEPTHS = (0.0, 0.5, 1.0)
TEXT = np.linspace(-0.3, 0.3, 8).tolist()  # pieces of text differ far more than methods do
NUMBERS = {"needle_kind": "number", "needle_bos": "clean"}
SETTINGS = {"trained_len": 128, "extended_len": 1024, "plan": "abcdef", "preset": {"model": {"vocab": 512}}}


def run_of(method, kind, losses, keys, weights="ema", nan=0, train_seconds=0.0):
    """-> what run.json says, and records by name of the task: a window a piece, 20 keys a cell."""
    about = {"method": method, "weights": weights, "kind": kind, "train_seconds": train_seconds}
    found = {}
    for length, loss, key in zip(LENGTHS, losses, keys, strict=True):
        name = f"perplexity/nested/test/{length}"
        lost = [x if i >= nan else None for i, x in enumerate(TEXT)]
        found[name] = [window(name, i, length, None if x is None else loss + x) for i, x in enumerate(lost)]
        name = f"passkey/study/{length}"
        cells = [(depth, i < round(20 * key)) for depth in DEPTHS for i in range(20)]
        found[name] = [prompt(name, i, length, *cell) for i, cell in enumerate(cells)]
    return about, found


def window(name, i, length, loss):
    """250 ms, and at the longest length a loss that falls with the position."""
    about = {"protocol": "nested", "data": "test", "length": length, "piece": i, "weight": 1.0, "hits": 0, "n": 100}
    places = {"bucket_nll": [loss + 3 / p for p in (32, 512, 1500)] if loss else [None] * 3, "bucket_n": [30, 30, 40]}
    by_place = places if length == max(LENGTHS) else {}
    return example(name, i, **about, **by_place, nll=None if loss is None else 100 * loss, wall_ms=250.0)


def prompt(name, i, length, depth, retrieved):
    about = {"variant": "study", "length": length, "depth": depth, "cell": depth}
    return example(name, i, **about, hits=5 * retrieved, n=5, wall_ms=50.0)


def rows(*runs):
    return [
        row
        for about, tasks in runs
        for records in tasks.values()
        for row in task_rows(records, about | {"run": f"methods/{about['method']}", "settings": NUMBERS}, {})
    ]


def of_length(run, length):
    about, found = run
    return about, {name: records for name, records in found.items() if name.endswith(f"/{length}")}


BASE = run_of("base", "base", (1.8, 4.0, 5.0), (0.9, 0.0, 0.0))
GOOD = run_of("good", "exact trained", (1.82, 1.6, 1.62), (0.9, 0.8, 0.6), train_seconds=30.0)
RAW = run_of("good", "exact trained", (1.9, 1.7, 1.7), (1, 1, 1), "raw", train_seconds=30.0)
BREAKS = run_of("breaks", "exact frozen", (1.8, 1.7, 2.7), (0.9, 0.3, 0.0))
BAD = run_of("bad", "approximate frozen", (1.9, 4.1, 5.5), (0.5, 0.0, 0.0))
NANS = run_of("nans", "approximate trained", (1.8, 1.7, 1.7), (0.9, 0.6, 0.5), nan=2)


def study(*runs):
    """The base of a study has no run of its own."""
    return evaluations(preferred_weights(rows(*runs)), 128, 1024)


def cells(*runs):
    return study_table(study(*runs)).text()


def put(folder, *runs):
    """Writes runs where a study's are."""
    for about, found in runs:
        own = folder / "methods" / about["method"] / "evals" / about["weights"]
        write_run(own, about["method"], about["kind"], about["weights"], found, NUMBERS)
        (own / RUN).write_text(json.dumps(about))
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    return folder


@pytest.fixture
def folder(tmp_path):
    return put(tmp_path, BASE, GOOD, BREAKS, BAD, NANS, RAW)


# The table.


def test_the_table_holds_the_rows():
    head, *body = cells(NANS, BASE, BAD, GOOD)
    assert head == ["method", "kind", *(f"PPL {n}" for n in LENGTHS), *(f"key% {n}" for n in LENGTHS), "seconds"]
    assert [row[0] for row in body] == ["base", "good", "nans", "bad"]  # by kind
    # exp of the mean losses; the mean of TEXT is 0; 3 lengths x (2 + 3 x 1) seconds, and 30 of training.
    assert body[1] == ["good", "exact trained", "6.17", "4.95", "5.05", "90", "80", "60", "45"]
    assert body[0][2:5] == ["6.05", "54.60", "148.41"]
    assert all(cell.endswith("*") for cell in body[2][2:5])


def test_what_was_not_measured_is_a_dash():
    assert cells(BASE, of_length(GOOD, 128))[2][2:8] == ["6.17", "-", "-", "90", "-", "-"]


def test_a_loss_that_is_never_finite_is_nan():
    table = cells(BASE, run_of("x", "exact frozen", (1, 1, 1), (0, 0, 0), nan=8))
    assert table[2][2:5] == ["nan*"] * 3


def test_needles_have_columns_a_finding_and_a_picture(tmp_path):
    """7 digits an answer, of which one wrong makes it wrong; one cell a depth."""
    about, found = BASE
    finds = {128: (1, 1, 1), 1024: (0, 1, 1), 2048: (0, 0, 1)}
    for length, right in finds.items():
        name = f"needle/number/{length}"
        keys = enumerate(zip(DEPTHS, right, strict=True))
        answer = {"form": "number", "length": length, "n": 7, "wall_ms": 0.0}
        found = found | {name: [example(name, i, **answer, depth=d, hits=6 + x) for i, (d, x) in keys]}
    both = study((about, found), GOOD)
    head, base, good = cells((about, found), GOOD)
    assert head[8:] == [*(f"ndl% {n}" for n in LENGTHS), "seconds"]
    assert (base[8:11], good[8:11]) == (["100", "67", "33"], ["-"] * 3)
    assert "needles" not in "".join(findings(both))  # no other method was asked
    other = study((about, found), ({**about, "method": "other", "kind": "exact frozen"}, found))
    assert (
        "The base finds 100% of the needles at 128 and 67% at 1024; there, at least half are found by: other 67%."
        in (findings(other))
    )
    report.write_report(put(tmp_path, (about, found), GOOD))
    assert "(needle.png)" in (tmp_path / "report.md").read_text()


def test_columns_of_the_terminal_are_aligned():
    lines = tables.terminal(cells(BASE, GOOD, BAD)).splitlines()
    ends = {line.rindex(cell) + len(cell) for line, cell in zip(lines[2:], ("15", "45", "15"), strict=True)}
    assert ends == {len(lines[0])} == {len(lines[1])}


def test_averaged_weights_are_preferred_and_compared():
    both = rows(BASE, RAW, GOOD)
    assert {(r["method"], r["weights"]) for r in preferred_weights(both)} == {("base", "ema"), ("good", "ema")}
    (table,) = weight_tables(evaluations(both, 128, 1024))
    assert table.text()[1:] == [["good", "5.47", "4.95", "100", "80"]]
    assert weight_tables(study(BASE)) == []


# Findings.


def test_success_and_failure_are_both_reported():
    text = "\n".join(findings(study(BASE, GOOD, BREAKS, BAD)))
    assert "The base model, trained at 128, has perplexity 6.05 at 128 and 54.6 at 1024 (9.03 times)." in text
    assert "At 1024, 2 of 3 methods have a lower perplexity than the base (54.60); the lowest: good 4.95" in text
    assert "Not significantly better than the base at 1024: bad." in text
    assert "2 of 3 methods have a lower perplexity at 1024 than the base at 128 (6.05), by up to 18% (good)" in text
    assert "The price at 128, where the base was trained: good +2%, bad +11%." in text
    assert "At 2048, within 5% of their perplexity at 1024: good." in text
    assert "At 2048, perplexity is above 1.5 times that at 1024: breaks x2.72." in text
    assert "The base retrieves 90% of the pass keys at 128 and 0% at 1024." in text
    assert "Pass keys at 1024, at least half retrieved: good 80%; below 10%: bad." in text
    assert "Pass keys at 2048, at least half retrieved: good 60%; below 10%: breaks, bad." in text


def test_no_finding_is_false():
    text = "\n".join(findings(study(run_of("base", "base", (1.8, 4.0, 5.0), (0.2, 0, 0)), BAD)))
    assert "no method has a significantly lower perplexity than the base." in text
    assert "No method at 1024 has a significantly lower perplexity than the base at its own 128." in text
    assert "hardly recalls at its own length" in text
    assert "at least half retrieved: no method; below 10%: bad." in text
    assert "within 5%" not in text
    assert "nothing can be compared" in findings(study(GOOD))[0]
    assert "nothing can be compared" in findings(study(BASE))[0]


def test_losses_that_are_not_finite_are_reported():
    text = findings(study(BASE, GOOD, NANS))
    assert [s for s in text if s.startswith("No finite")] == [
        f"No finite loss in 2 windows of {n}: nans." for n in LENGTHS
    ]


def test_differences_are_paired_on_the_same_text():
    """TEXT's spread is far over the difference of 0.02, yet each piece says the same. One that wavers does not."""
    evals = study(BASE, GOOD)
    a, b = evals.rows
    assert significantly_lower(evals, a, b, 128, 128)
    assert not significantly_lower(evals, b, a, 128, 128)
    assert not significantly_lower(evals, a, a, 128, 128)
    first, second = (next(r for r in evals.rows[who] if r["task"] == "perplexity") for who in (a, b))
    assert first["length"] == second["length"] == 128
    second["pieces"] = [x + 0.1 * (-1) ** i + 0.01 for i, x in enumerate(first["pieces"])]
    assert not significantly_lower(evals, a, b, 128, 128)


def test_agreement_has_the_sign_of_the_claim():
    """Four methods whose perplexity falls as their keys rise: +1."""
    ordered = [run_of(f"m{i}", "exact frozen", (2, 2 - 0.1 * i, 2), (1, 0.2 * i, 0)) for i in range(4)]
    text = [s for s in findings(study(BASE, *ordered)) if "rank correlation" in s]
    assert "+1.00 over 4 methods" in text[0]
    assert ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [1.5, 0.0, 1.5, 3.0]


# Files and pictures.


def test_the_report_is_written(folder):
    table = report.write_report(folder)
    page = (folder / "report.md").read_text()
    assert [line for line in page.splitlines() if "No finite loss" in line] == [
        f"- No finite loss in 2 windows of {n}: nans." for n in LENGTHS
    ]
    assert table.splitlines()[0].split()[:2] == ["method", "kind"]
    assert page.isascii()
    for part in ("| good | exact trained | 6.17 |", "rank correlation", "## Raw and averaged weights", '"abcdef"'):
        assert part in page
    for name in ("perplexity", "positions", "passkey", "scatter"):
        assert f"({name}.png)" in page
        picture = plt.imread(folder / f"{name}.png")[..., :3]
        assert min(picture.shape[:2]) > 300
        assert 0.01 < (picture < 0.9).any(axis=-1).mean() < 0.9  # neither blank nor black


def test_the_report_is_that_of_the_rows(folder, monkeypatch):
    monkeypatch.setattr(single_run, "FIGURES", {})
    assert report.write_report(folder) == tables.terminal(cells(BASE, GOOD, BREAKS, BAD, NANS))
    again = {(r["method"], r["weights"], r["run"]) for r in read_rows(folder)}
    assert ("good", "raw", "methods/good/evals/raw") in again
    assert len(again) == 6


def test_other_runs_of_a_method_are_not_the_study_s(folder, monkeypatch):
    """They have other text: they stand in tables of their own, below."""
    monkeypatch.setattr(single_run, "FIGURES", {})
    table = report.write_report(folder)
    about, found = run_of("good", "exact trained", (3.0, 3.0, 3.0), (0, 0, 0))
    write_run(folder / "later" / "good", about["method"], about["kind"], about["weights"], found)
    assert report.write_report(folder).startswith(table)
    assert "## Raw and averaged weights" in (folder / "report.md").read_text().split("# Evaluations")[0]
    assert "| later/good |" in (folder / "report.md").read_text().split("# Evaluations")[1]


def test_a_half_done_study_has_a_report(tmp_path):
    put(tmp_path, of_length(BASE, 128))
    path = tmp_path / "methods/base/evals/ema/passkey/study/128" / RECORDS
    path.write_bytes(path.read_bytes()[:-1])  # the last answer is torn
    assert report.write_report(tmp_path).splitlines()[-1].split() == ["base", "base", "6.05", *"-----", "2"]
    assert not (tmp_path / "passkey.png").exists()


def test_runs_without_a_study_have_a_report(folder):
    (folder / "settings.json").unlink()
    report.write_report(folder)
    page = (folder / "report.md").read_text()
    assert page.startswith("# Evaluations")
    assert "## Findings" not in page


def test_user_mistakes_are_named(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match=r"--dir=.* has no evaluations: no run.json in it or below$"):
            report.write_report(tmp_path)
        (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    put(tmp_path, of_length(BASE, 128))
    for path in tmp_path.rglob(RECORDS):
        path.write_text("")
    with pytest.raises(ValueError, match=r"--dir=.* has no finished evaluations: run the same commands again"):
        report.write_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"trained_len": 12', "settings.json is damaged: delete it"),
        ("[]", "settings.json is damaged: it is no JSON object"),
        ('{"trained_len": 128}', "settings.json is not of a study"),
    ],
)
def test_damaged_settings_are_named(text, message, folder):
    (folder / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        report.write_report(folder)
    assert "\n" not in str(error.value)


def test_what_a_study_lacks_is_found(folder):
    """The check of `make demo-quick`: of a whole study; of one with NaN; of one whose base has learned nothing."""
    report.write_report(folder)
    values = [row["value"] for row in rows(NANS) if row["task"] == "perplexity"]
    assert check_report.problems(folder) == [
        f"nans: perplexity at {n} is {x} (2 windows of NaN)" for n, x in zip(LENGTHS, values, strict=True)
    ]
    weak = folder / "weak"
    weak.mkdir()
    put(weak, run_of("base", "base", (5.0, 5.0, 5.0), (0.5, 0, 0)))
    found = "\n".join(check_report.problems(weak))
    for part in ("report.md is missing", "is near that of a guess, 512", "the base retrieves 50% of keys"):
        assert part in found
    put(folder / "none", GOOD)
    assert check_report.problems(folder / "none")[-1] == "the base was not evaluated"
    (folder / "settings.json").unlink()
    assert check_report.problems(folder) == ["settings.json is missing"]


def test_the_tool_prints_the_table_and_names_mistakes(folder, tmp_path):
    root = pathlib.Path(__file__).parent.parent
    command = [sys.executable, "-m", "tools.report"]
    done = subprocess.run([*command, f"--dir={folder}"], cwd=root, capture_output=True, text=True, check=True)
    assert "good" in done.stdout
    assert "report.md" in done.stdout
    failed = subprocess.run([*command, "--dir=/nowhere"], cwd=root, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip() == "error: --dir=/nowhere has no evaluations: no run.json in it or below"


def test_curves_show_the_rows():
    ((_, _, make_figure),) = figures.perplexity_figures(study(BASE, GOOD, BAD))
    figure = make_figure()
    first, second = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["exact trained", "approximate frozen"]
    np.testing.assert_allclose(
        first.lines[0].get_xydata(), [[n, np.exp(x)] for n, x in zip(LENGTHS, (1.82, 1.6, 1.62), strict=True)]
    )
    assert {t.get_text() for t in second.texts} >= {
        "bad: 245",
        "base: 148",
    }  # failures leave the picture, with their value
    assert first.get_ylim()[1] == pytest.approx(2 * np.exp(1.9))
    plt.close(figure)


def test_heat_maps_show_the_rows():
    ((_, _, make_figure),) = figures.passkey_figures(study(GOOD))
    figure = make_figure()
    ax = figure.axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[0.9, 0.8, 0.6]] * len(DEPTHS))
    assert [line.get_xdata()[0] for line in ax.lines] == [0.5, 1.5]  # after 128, after 1024
    assert ax.images[0].get_clim() == (0, 1)
    plt.close(figure)


@pytest.mark.parametrize("y", [[0.5], [0.1] * 7, [0.97, 0.98, 0.99, 1.0], [0, 0.01, 0.5, 0.51, 0.9]])
def test_names_are_spread(y):
    places = labels.spread(y, 0.05)
    assert (np.diff(places) > 0.05 - 1e-9).all()
    assert max(places) <= 1 + 1e-9


def test_names_of_points_do_not_overlap():
    taken = []
    for i in range(25):
        box = labels.free_box(100 + i % 3, 100, 40, taken, edges=(60, 0, 300, 300))
        assert not any(labels.overlap(box, other) for other in taken)
        assert box[0] > 60
        assert box[2] < 300
        taken.append(box)
