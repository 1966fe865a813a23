import csv
import json
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

import eval_rows
from longjax import report
from longjax.methods import METHODS
from longjax.report import aggregates, page
from longjax.report.evaluation import benchmark_tables, comparable, figures
from longjax.report.evaluation import page as evaluation
from longjax.report.evaluation.table_1 import main_length, table_1
from longjax.report.evaluation.versus_published import published_table
from longjax.report.plotting import style
from longjax.report.published import PUBLISHED
from longjax.report.rows import evaluations
from longjax.report.stats.correlation import pearson, spearman
from longjax.report.tables import terminal
from made_runs import answers, windows, write_run

RULER = aggregates.RULER_TASKS


def row(benchmark, task, value, length=32768, stderr=0.1, method="pi", kind="exact trained", run="pi", **extra):
    about = {"method": method, "weights": "ema", "kind": kind, "run": run, "seconds": 0.0}
    return about | {
        "benchmark": benchmark, "task": task, "length": length, "value": value, "stderr": stderr, "n": 10,
    } | extra  # fmt: skip


def ruler(values=None, **extra):
    values = values or [0.1 * (i % 7) for i in range(13)]
    asked = {"version": "2024", "settings": {"prompts": eval_rows.HASH}} | extra
    return [row("ruler", task, value, **asked) for task, value in zip(RULER, values, strict=False)]


def numbers(table, label):
    (found,) = [
        dict(zip((c.head for c in table.columns), x, strict=True)) for who, x in table.lines if who.label == label
    ]
    return found


def by_file(all_of):
    return {table.file: table for table in benchmark_tables.tables(all_of)}


# Means and their errors.


def test_ruler_is_the_mean_of_13_tasks():
    values = [0.1 * (i % 7) for i in range(13)]
    found = numbers(table_1(evaluations(ruler())), "pi")["RULER"]
    assert found.value == pytest.approx(sum(values) / 13)
    assert found.stderr == pytest.approx(0.1 / math.sqrt(13))  # of 13 independent means
    assert found.n == 130


def test_missing_tasks_are_marked():
    all_of = evaluations(ruler()[:-1])
    assert numbers(table_1(all_of), "pi")["RULER"].mark == "of 12"
    tasks = by_file(all_of)["ruler_2024_32768"]
    assert tasks.text()[1][-1] == "-"
    assert tasks.text()[1][2] == "25.8 (of 12)"  # 3.1 / 12
    assert "(of k)" in tasks.notes[0]


def test_the_mean_of_table_1_needs_all_four():
    rows = eval_rows.rows("pi")
    found = numbers(table_1(evaluations(rows)), "pi")
    scores = [found[c].value for c in ("needle", "many-shot", "LongBench", "RULER")]
    assert found["mean"].value == pytest.approx(np.mean(scores))
    for cut in (lambda r: r["benchmark"] != "manyshot", lambda r: r["task"] != "vt", lambda r: r["task"] != "lcc"):
        assert numbers(table_1(evaluations(list(filter(cut, rows)))), "pi")["mean"] is None


def test_table_1_stands_at_the_length_of_the_training():
    rows = eval_rows.rows("pi")
    assert main_length(evaluations(rows, extended=16384)) == 16384
    assert main_length(evaluations(rows)) == 32768  # the study's
    assert main_length(evaluations([r for r in rows if r["length"] != 32768])) == 65536
    found = numbers(table_1(evaluations(rows, extended=16384)), "pi")
    (ppl,) = [r["value"] for r in rows if r["task"] == "perplexity" and r["length"] == 16384]
    assert found["PPL"].value == ppl
    assert found["RULER"].value == np.mean(
        [r["value"] for r in rows if r["benchmark"] == "ruler" and r["length"] == 16384]
    )


def test_what_was_not_run_is_a_dash_and_nan_has_a_star():
    about = {"protocol": "lceg", "data": "pg19"}
    some = row("perplexity", "perplexity", 7.25, nan=2, **about)
    never = row("perplexity", "perplexity", None, length=65536, stderr=None, nan=12, **about)
    all_of = evaluations([some, never])
    assert table_1(all_of).text()[1][2:] == ["7.25*", "-", "-", "-", "-", "-"]
    table = by_file(all_of)["perplexity_lceg_pg19"]
    assert table.text()[1][2:] == ["7.25*", "nan*"]
    assert "star" in table.notes[0]
    assert "12 windows without a finite loss" in table.csv()
    assert "Not run: needle, many-shot, LongBench, RULER" in table_1(all_of).notes[-1]


def test_protocols_and_versions_have_tables_of_their_own():
    rows = [row("perplexity", "perplexity", 6.0, protocol=p, data=d) for p in ("lceg", "strided") for d in ("a", "b")]
    rows += ruler() + ruler([0.5] * 13, version="main")
    files = by_file(evaluations(rows))
    assert {f"perplexity_{p}_{d}" for p in ("lceg", "strided") for d in ("a", "b")} <= files.keys()
    assert files["ruler_main"].text()[1][2] == "50.0"
    assert numbers(table_1(evaluations(rows)), "pi")["PPL"].value == 6.0


def test_every_number_of_the_csv_is_that_of_the_rows():
    rows = eval_rows.everyone("base", "yarn")
    table = by_file(evaluations(rows))["ruler_2024_8192"]
    read = list(csv.DictReader(table.csv().splitlines()))
    assert [line["method"] for line in read] == ["base", "yarn"]
    wanted = {(r["method"], r["task"]): r for r in rows if r["benchmark"] == "ruler" and r["length"] == 8192}
    for line in read:
        for task in RULER:
            mine = wanted[line["method"], task]
            assert (float(line[task]), float(line[f"{task} stderr"])) == (mine["value"], mine["stderr"])


def test_both_scorers_of_longbench_and_its_other_tasks():
    rows = [row("longbench", t, 0.4, length=None, lceg=0.5, lceg_stderr=0.2) for t in aggregates.LONGBENCH_16]
    rows += [row("longbench", "vcsum", 0.9, length=None, lceg=0.9)]
    files = by_file(evaluations(rows))
    assert files["longbench"].text()[1][2] == "40.0"  # vcsum is not among the 16
    lceg = numbers(files["longbench_lceg"], "pi")["mean of 16"]
    assert (lceg.value, lceg.stderr) == (pytest.approx(0.5), pytest.approx(0.2 / 4))
    assert files["longbench_more"].text()[1][2] == "90.0"


def test_cost_counts_each_task_once():
    rows = [row("ruler", t, 0.5, version="2024", peak_bytes=2**30 * (i + 1)) for i, t in enumerate(RULER[:2])]
    rows[0] |= {"seconds": 10.0, "tokens_per_second": 100.0}
    rows[1] |= {"seconds": 30.0, "tokens_per_second": 200.0}
    assert by_file(evaluations(rows))["cost"].text()[1][2:] == ["40", "175", "2.00"]  # 7000 tokens in 40 seconds


def test_what_is_known_of_errors():
    """Cells of one example: the spread of cells. Shots of the same questions: as if all erred together."""
    cells = [
        row("needle", "needle", x, stderr=None, depth=d) | {"n": 1} for d, x in ((0.0, 1.0), (0.5, 0.0), (1.0, 0.5))
    ]
    shots = [row("manyshot", f"trec_{n}", 0.5, length=None, stderr=0.1 * n, shots=n) for n in (1, 3)]
    found = numbers(table_1(evaluations(cells + shots)), "pi")
    assert found["needle"].stderr == pytest.approx(0.5 / math.sqrt(3))
    assert found["many-shot"].stderr == pytest.approx(0.2)
    unknown = [r | {"n": 2} for r in cells]
    assert numbers(table_1(evaluations(unknown)), "pi")["needle"].stderr is None


def test_the_mean_over_depths():
    cells = [
        row("passkey", "passkey", x, variant="yarn", depth=d, stderr=e, partial=None)
        for d, x, e in ((0.0, 1.0, 0.0), (0.5, 0.5, 0.3), (1.0, 0.0, 0.4))
    ]
    files = by_file(evaluations(cells))
    found = numbers(files["passkey_yarn"], "pi")["32768"]
    assert (found.value, found.stderr) == (pytest.approx(0.5), pytest.approx(0.5 / 3))  # the root of 0.09 + 0.16
    assert "passkey_yarn_partial" not in files


def test_keys_without_a_depth_have_a_table_and_no_map():
    all_of = evaluations([row("passkey", "passkey", 0.5, variant="longlora", depth=None)])
    assert by_file(all_of)["passkey_longlora"].text()[1][2] == "50.0"
    assert list(figures.passkey_figures(all_of)) == []


def test_scores_without_values_have_no_table():
    some, none = row("ruler", "vt", 0.5, version="2024", precision=None), ruler(precision=None)
    assert "ruler_2024_precision" not in by_file(evaluations(none))
    table = by_file(evaluations([some | {"precision": 0.25}, *none[:3]]))["ruler_2024_precision"]
    assert table.text()[1][2] == "25.0 (of 1)"


def test_labels_are_as_short_as_they_can_be():
    rows = [row("ruler", "vt", 0.5, version="2024", method=m, run=r) for m, r in
            (("yarn", "y"), ("pi", "one"), ("pi", "two"))]  # fmt: skip
    rows.append(row("ruler", "vt", 0.5, version="2024", method="yarn", run="y") | {"weights": "raw"})
    assert [s.label for s in evaluations(rows).rows] == ["pi [one]", "pi [two]", "yarn ema", "yarn raw"]


def test_two_runs_of_one_name_are_not_one():
    with pytest.raises(ValueError, match=r"two runs of pi \(ema\) that are both called pi, with vt in both"):
        evaluations([*ruler(), row("ruler", "vt", 0.7, version="2024", settings={})])


# Published numbers.


def test_published_numbers_are_those_that_were_confirmed():
    assert len(PUBLISHED) == 45
    assert {p.method for p in PUBLISHED} <= METHODS.keys()
    found = {(p.method, p.column, p.length): (p.value, p.table) for p in PUBLISHED}
    assert found["ntk_32k", "RULER", 65536] == (46.26, 3)
    assert found["ntk_frozen", "RULER", 32768] == (0.72, 1)
    assert ("self_extend", "PPL", 32768) not in found


def test_another_model_does_not_stand_beside_published_numbers():
    for change in ({"model": "4 layers of 64"}, {"model": "not known"}):
        table, reasons = published_table(evaluations([row | change for row in eval_rows.rows("pi")]))
        assert table is None
        assert len(reasons) == 1
        assert f"the model is {change['model']}, the paper's LLaMA-2 7B: PPL at 32768 (pi)" in reasons[0]


def test_published_numbers_stand_beside_ours():
    table, reasons = published_table(evaluations(eval_rows.rows("pi")))
    shown = dict(zip(*table.text(), strict=True))
    rows = eval_rows.rows("pi")
    overlap = np.mean([r["word_overlap"] for r in rows if r["task"] == "needle"])
    assert [shown[f"{c} 32768 published"] for c in ("PPL", "needle", "many-shot", "LongBench", "RULER")] == [
        "5.90", "42.10", "75.50", "33.50", "57.66"]  # fmt: skip
    assert shown["needle 32768 here"] == f"{100 * overlap:.1f}"
    lceg = np.mean([r["lceg"] for r in rows if r["benchmark"] == "longbench"])
    assert shown["LongBench 32768 here"] == f"{100 * lceg:.1f}"
    assert reasons == []


@pytest.mark.parametrize(
    ("benchmark", "change", "reason"),
    [
        ("ruler", {"settings": {"version": "main"}}, "version is 'main', the paper's '2024'"),
        ("ruler", {"settings": {"version": "2024", "prompts": "own"}}, "the prompts are of our own wording"),
        ("ruler", {"length": 30000}, "not run at 32768"),
        ("perplexity", {"protocol": "strided"}, "the paper's protocol is lceg"),
        ("perplexity", {"data": "proof-pile"}, "the paper's data are PG19"),
        ("perplexity", {"length": 30000}, "not run at 32768"),
        (
            "needle",
            {"settings": {"needle_kind": "sentence", "needle_bos": "clean"}},
            "bos is 'clean', the paper's 'lceg'",
        ),
        ("needle", {"length": 8192}, "no needle at 32768 or beyond"),
        ("longbench", {"settings": {"prompts": eval_rows.HASH, "max_length": 4096}}, "prompts of at most 4096 tokens"),
        ("longbench", {"task": "vcsum"}, "not all of the study's 16 tasks were run"),
        ("manyshot", {"settings": {"max_length": 32768}}, "the prompts are of our own wording"),
        (
            "manyshot",
            {"settings": {"max_length": 32768, "prompts": eval_rows.HASH, "examples": "same for all"}},
            "the examples were drawn by us",
        ),
    ],
)
def test_other_settings_do_not_stand_beside_published_numbers(benchmark, change, reason):
    column = {"perplexity": "PPL", "manyshot": "many-shot", "longbench": "LongBench", "ruler": "RULER"}.get(benchmark)
    rows = [r | change if r["benchmark"] == benchmark else r for r in eval_rows.rows("pi")]
    names = ("benchmark", "task", "length", "depth", "metric", "position")
    once = {tuple(r.get(name) for name in names): r for r in rows}  # rows that the change made one
    table, reasons = published_table(evaluations(list(once.values())))
    assert f"{column or 'needle'} 32768 published" not in table.text()[0]
    assert [reason in line and f"{column or 'needle'} at 32768 (pi)" in line for line in reasons] == [True]


# What cannot be compared.


def compared(*runs):
    return comparable.mark_differences(evaluations([r for rows in runs for r in rows]))


def test_equal_settings_have_no_marks():
    all_of, found = compared(eval_rows.rows("pi"), eval_rows.rows("yarn"))
    assert found == {}
    assert not any("mark" in r for rows in all_of.rows.values() for r in rows)


def test_another_haystack_is_marked_everywhere():
    odd = eval_rows.rows("landmark", data={"name": "essays", "sha256": "cd" * 32})
    all_of, found = compared(eval_rows.rows("pi"), eval_rows.rows("yarn"), odd)
    (difference,) = found.values()
    assert str(difference).startswith(
        "data.name is essays rather than made; data.sha256 is another rather than that of"
    )
    assert "landmark (perplexity, ruler, needle, passkey, longbench, manyshot, short)" in str(difference)
    cells = {row[0]: row[2:] for row in table_1(all_of).text()[1:]}
    assert all(cell.endswith("(a)") for cell in cells["landmark"])
    assert not any("(" in cell for name in ("pi", "yarn") for cell in cells[name])


def test_fewer_examples_are_a_difference_unless_losses_were_nan():
    few = [r | {"n": 7} for r in ruler(method="yarn", run="yarn")]
    _, found = compared(ruler(), ruler(method="clex", run="clex"), few)
    assert str(found["a"]) == "examples is 7 rather than 10: yarn (ruler)"
    about = {"protocol": "lceg", "data": "pg19"}
    whole = [row("perplexity", "perplexity", 6.0, nan=0, method=m, run=m, **about) for m in ("clex", "yarn")]
    _, found = compared(whole, [row("perplexity", "perplexity", 6.0, nan=3, **about) | {"n": 7}])
    assert found == {}


def test_other_tokenizers_and_types_are_reported():
    more = [r | {"tokenizer_sha256": "cd" * 32, "dtype": "float32"} for r in ruler(method="yarn", run="yarn")]
    same = [
        r | {"tokenizer_sha256": "ab" * 32, "dtype": "float32"} for m in ("pi", "clex") for r in ruler(method=m, run=m)
    ]
    _, found = compared(same, more)
    assert [str(d) for d in found.values()] == [
        "tokenizer_sha256 is another rather than that of most runs: yarn (ruler)"
    ]


def test_protocols_of_some_are_reported():
    lines = comparable.partial_suites(evaluations(ruler() + ruler(version="main", method="yarn", run="yarn")))
    assert lines == [
        "Not all by one protocol, so in tables of their own: ruler, version 2024: pi; ruler, version main: yarn."
    ]
    assert comparable.partial_suites(evaluations(ruler() + ruler(method="yarn", run="yarn"))) == []


# Correlations.


def test_correlations():
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spearman(x, np.exp(x)).value == pytest.approx(1)
    assert spearman(x, np.exp(x)).low == pytest.approx(1)  # every resample is monotone
    y = np.array([1.0, 3.0, 2.0, 5.0, 4.5])
    found = pearson(x, y)
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.low < found.value < found.high <= 1
    assert pearson(x[:3], y[:3]) is None
    assert spearman(x[:4], x[:4]).p > 0.05  # 2 of 24 orders are as far from 0: four points are never sure
    assert spearman(x[:4], x[:4]).sign == 0
    assert spearman(x[:6], -x[:6]).sign == -1  # 2 of 720
    assert pearson(x, np.ones(5)) is None


# Figures and the page.


def test_needle_maps_hold_the_rows():
    rows = eval_rows.everyone("pi", "base")
    all_of = evaluations(rows, 4096, 32768)
    (suite,) = all_of.suites("needle")
    lines = benchmark_tables.rows_of_suite(all_of, suite, lambda r: (r["length"], r["depth"]))
    figure = figures.by_depth(all_of, lines, "share")
    base, pi = (ax for ax in figure.axes if ax.images)
    for ax, method in ((base, "base"), (pi, "pi")):
        want = {(r["length"], r["depth"]): r["value"] for r in rows if r["task"] == "needle" and r["method"] == method}
        cells = [[want[n, d / 100] for n in eval_rows.LENGTHS] for d in eval_rows.DEPTHS]
        np.testing.assert_array_equal(ax.images[0].get_array(), cells)
        assert ax.images[0].get_clim() == (0, 1)
        assert [(line.get_xdata()[0], line.get_linestyle()) for line in ax.lines] == [(0.5, ":"), (3.5, "--")]
    assert [t.get_text() for t in base.get_yticklabels()][:3] == ["0%", "11%", "22%"]
    plt.close(figure)


def test_one_length_is_enough_for_a_map():
    all_of = evaluations(eval_rows.rows("pi", lengths=(256,)), 128, 1024)
    (suite,) = all_of.suites("ruler")
    figure = figures.by_task(all_of, benchmark_tables.rows_of_suite(all_of, suite, lambda r: (r["length"], r["task"])))
    assert figure.axes[0].images[0].get_array().shape == (13, 1)
    plt.close(figure)


def test_curves_of_shots_have_error_bars():
    rows = eval_rows.rows("pi")
    ((_, _, picture),) = figures.manyshot_figures(evaluations(rows))
    figure = picture()
    ax = figure.axes[0]
    want = [100 * r["value"] for r in rows if r["benchmark"] == "manyshot"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), want)
    bars = [segment[:, 1] for segment in ax.collections[0].get_segments()]
    errors = [100 * r["stderr"] for r in rows if r["benchmark"] == "manyshot"]
    np.testing.assert_allclose([np.ptp(bar) / 2 for bar in bars], errors)
    plt.close(figure)


def test_figure_4_shows_table_1():
    all_of = evaluations(eval_rows.everyone())
    points = figures.score_points(all_of)
    assert points.keys() == {"needle", "many-shot", "LongBench", "RULER"}
    for label, _, ppl, score in points["RULER"]:
        mine = numbers(table_1(all_of), label)
        assert (ppl, score) == (mine["PPL"].value, 100 * mine["RULER"].value)
    said = figures.agreement("RULER", points["RULER"])
    assert re.fullmatch(r"RULER, 7 methods\nrho -\d.\d\d \[-1.00, .*\], r -0.\d\d \[.*\]", said)


def few_rows():
    return [row for name in ("base", "pi", "yarn", "landmark") for row in eval_rows.rows(name, lengths=(4096, 32768))]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, *evaluation.write_evaluation_page(few_rows(), folder, 4096, 32768)


def test_the_page_links_what_was_written(written):
    folder, _, markdown = written
    links = set(re.findall(r"\]\(((?:figures|tables)/[^)]+)\)", markdown))
    assert links == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    names = "needle_sentence_lceg_essays manyshot against_scores positions_perplexity_lceg_pg19 ruler_2024"
    assert {"tables/table1.csv", *(f"figures/{name}.png" for name in names.split())} <= links
    assert markdown.isascii()
    for part in ("## Table 1", "## Beside the published numbers", "## Provenance", "Spearman"):
        assert part in markdown
    for path in folder.glob("figures/*.png"):
        picture = plt.imread(path)[..., :3]
        assert min(picture.shape[:2]) > 200
        assert 0.01 < (picture < 0.9).any(axis=-1).mean() < 0.9  # neither blank nor black


def test_the_report_is_the_same_again(written, tmp_path):
    folder, text, markdown = written
    again = evaluation.write_evaluation_page(few_rows(), tmp_path, 4096, 32768)
    assert again == (text, markdown)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes() for path in files)


def test_the_terminal_has_120_columns():
    rows = [
        r | {"method": "a_method_with_a_name" * 4, "weights": w} for w in ("ema", "raw") for r in eval_rows.rows("pi")
    ]
    text = evaluation.on_terminal(table_1(evaluations(rows)), 3)
    assert max(map(len, text.splitlines())) <= 120
    assert "3 differences of settings" in text
    assert ".." in text
    assert terminal(table_1(evaluations(eval_rows.rows("pi"))).text()) in evaluation.on_terminal(
        table_1(evaluations(eval_rows.rows("pi"))), 0
    )


@pytest.mark.parametrize("benchmark", ["perplexity", "needle", "passkey", "ruler", "longbench", "manyshot", "short"])
def test_each_benchmark_alone_is_a_report(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "save", lambda figure, path: plt.close(figure))
    rows = [r for r in eval_rows.rows("pi", lengths=(512,)) if r["benchmark"] == benchmark]
    text, markdown = evaluation.write_evaluation_page(rows, tmp_path, None, None)
    assert "pi" in text
    assert "Not run: " in markdown
    assert len(list(tmp_path.glob("tables/*.csv"))) >= 2


# Folders.


def test_a_report_of_runs_in_folders(tmp_path):
    task = "longbench/hotpotqa"
    write_run(tmp_path / "pi" / "eval", "pi", tasks={task: answers(task, 10)})
    write_run(tmp_path / "yarn" / "eval2", "yarn", tasks={task: answers(task, 30)}, settings={"seed": 1})
    text = report.write_report(tmp_path, tmp_path / "out")
    assert "25.0 (of 1)" in text
    said = (tmp_path / "out" / "report.md").read_text()
    assert "seed is 1 rather than 0: yarn (longbench)" in said
    assert "| pi | exact trained | ema |" not in said
    assert "made/yarn" in said  # the checkpoint
    assert not (tmp_path / "report.md").exists()


def test_where_nothing_can_be_written(tmp_path):
    task = "longbench/hotpotqa"
    write_run(tmp_path / "pi", "pi", tasks={task: answers(task, 10)})
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/tables.* cannot be written"):
        report.write_report(tmp_path, tmp_path / "file")


def test_a_study_and_its_evaluations_share_a_page(tmp_path):
    """Rows of the nested protocol feed the study's table; all others have a part of their own."""
    nested, other = ({f"perplexity/{p}/made/128": windows(2.0, protocol=p)} for p in ("nested", "lceg"))
    settings = {"trained_len": 128, "extended_len": 1024}
    for name, tasks in (("alone", nested), ("both", nested | other)):
        write_run(tmp_path / name / "methods" / "base", "base", kind="base", tasks=tasks)
        (tmp_path / name / "settings.json").write_text(json.dumps(settings))
        report.write_report(tmp_path / name)
    alone, both = ((tmp_path / name / "report.md").read_text() for name in ("alone", "both"))
    assert "## Findings" in alone
    assert "# Evaluations" not in alone
    assert alone.split("## Settings")[0] in both
    assert "perplexity, protocol lceg, data made" in both


def test_lengths_come_from_the_study_or_the_rows(tmp_path):
    rows = [{"trained_len": 128, "extended_len": 512}, {"trained_len": 128, "extended_len": 1024}, {}]
    assert page.context_lengths(tmp_path, rows) == (128, None)  # two trainings: none is the one
    (tmp_path / "settings.json").write_text(json.dumps({"trained_len": 64, "extended_len": 256}))
    assert page.context_lengths(tmp_path, rows) == (64, 256)
