"""The page of a study of several seeds, from made records."""

import csv
import dataclasses
import json
import math
import re

import numpy as np
import pytest

import made_study
from longjax.evals.results import read_rows
from longjax.report import measures
from longjax.report.rows import Number
from longjax.report.study import main_table, recommendation, seed_means, summary, trials
from longjax.report.study import page as study_page
from longjax.report.study.main_table import significantly_better
from longjax.report.study.questions import against_scores, beyond, claims, paper
from longjax.report.study.text import join_names
from longjax.report.study.trials import number_over_seeds
from made_study import EXTENDED, TRAINED, write_study

ARMS = (
    "base", "pi", "ntk_32k", "ntk_64k", "yarn", "clex", "ntk_frozen", "longlora", "lm_infinite", "self_extend",
    "leaky_rerope", "pi_ds_bf16",
)  # fmt: skip
LENGTHS = (128, 256, 1024, 2048, 4096)
MEASURES = (
    measures.ppl(EXTENDED), measures.ruler(EXTENDED), measures.passkey(), measures.needle(), measures.manyshot(),
    measures.ruler(EXTENDED, "vt"), measures.needle(EXTENDED, "number"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = write_study(tmp_path_factory.mktemp("study"), ARMS, windows=8, samples=3, lengths=LENGTHS)
    for place in ("seed_0/base", "seed_1/base", "seed_0/methods/pi"):
        (root / place).mkdir(exist_ok=True)
        steps = [{"step": i, "loss": 4 - 0.1 * i, "grad_norm": 1.0, "learning_rate": 1e-3} for i in range(1, 9)]
        (root / place / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    (root / "seed_0" / "methods" / "pi" / "method.json").write_text(json.dumps({"method": "pi(factor=8.0)"}))
    return root


@pytest.fixture(scope="module")
def found(folder):
    return trials.read_trials(folder, TRAINED, EXTENDED)


@pytest.fixture(scope="module")
def rows(folder):
    return read_rows(folder)


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    (out / "discussion.md").write_text("What we think of it.\n")
    study_page.write_study_page(folder, out)
    return out


# Trials.


def test_arms_stand_by_kind_and_then_as_in_the_tables(found):
    kinds = [found.kind(arm) for arm in found.arms]
    assert kinds == sorted(kinds, key=trials.category_rank)
    assert found.arms[:3] == ["base", "pi", "ntk_32k"]
    assert found.main == [arm for arm in found.arms if arm not in ("pi_ds_bf16", "leaky_rerope")]  # of few tests
    assert found.seeds == [0, 1]


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_a_number_is_the_mean_of_the_seeds(rows, found, measure):
    mine = [r for r in rows if r["method"] == "pi" and r["weights"] == "ema"]
    one, two = (measure.number([r for r in mine if r["seed"] == seed]) for seed in (0, 1))
    number = found.number(measure, "pi")
    assert number.value == pytest.approx((one.value + two.value) / 2)
    assert number.half_range == pytest.approx(abs(one.value - two.value) / 2)
    assert number.stderr == pytest.approx((one.stderr + two.stderr) / 2)
    assert number.n == one.n + two.n


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_a_difference_is_that_of_the_numbers(found, measure):
    """Resampled are the questions that both got; without resampling it is what the tables say."""
    there, back = found.versus(measure, "pi", "yarn"), found.versus(measure, "yarn", "pi")
    assert there.difference == pytest.approx(found.value(measure, "pi") - found.value(measure, "yarn"), abs=1e-9)
    assert there.difference == pytest.approx(-back.difference, abs=1e-12)
    low, high = there.interval
    assert low <= there.difference <= high
    assert (low, high) == pytest.approx(tuple(-x for x in reversed(back.interval)), abs=1e-12)
    assert set(there.by_seed) == {0, 1}


def test_seeds_are_resampled_together(found):
    """The same questions are drawn for both, so that the interval does not shrink by their number."""
    for measure in MEASURES:
        versus = twins(found).versus(measure, "lm_infinite", "ntk_32k")
        one, two = (x.draws_M for x in versus.by_seed.values())
        np.testing.assert_array_equal(one, two)


def test_sure_needs_both_seeds(found):
    versus = found.versus(measures.ppl(EXTENDED), "lm_infinite", "ntk_32k")
    assert versus.significant
    one = versus.by_seed[1]
    turned = dataclasses.replace(one, a=one.b, b=one.a)
    assert not dataclasses.replace(versus, by_seed={0: versus.by_seed[0], 1: turned}).significant


def test_weights_are_averaged_ones_unless_named(found):
    assert found.weights("pi") == ["ema", "raw"]
    assert found.weights("self_extend") == ["given"]
    measure = measures.ppl(EXTENDED)
    assert found.value(measure, "pi") == found.value(measure, "pi", "ema") != found.value(measure, "pi", "raw")
    assert math.isnan(found.value(measures.ruler(EXTENDED), "pi", "raw"))  # few tests


def test_a_missing_seed_is_marked():
    assert number_over_seeds([Number(0.5, 0.1, 10)], 2) == Number(0.5, 0.1, 10, mark="1 of 2 seeds")
    assert number_over_seeds([], 2) is None


def test_what_was_not_run_has_no_number(found):
    assert found.number(measures.ruler(512), "pi") is None
    assert found.versus(measures.ruler(512), "pi", "yarn") is None
    assert found.versus(measures.ruler(EXTENDED), "pi", "leaky_rerope") is None


def test_rows_of_seeds_as_those_of_one(found):
    (who, rows), *_ = seed_means.mean_evaluations(found, ["yarn"]).rows.items()
    assert who.label == "yarn"
    mine = [r for r in rows if r["task"] == "vt" and r["length"] == EXTENDED]
    assert [r["value"] for r in mine] == [pytest.approx(found.value(measures.ruler(EXTENDED, "vt"), "yarn"))]


def twins(found):
    """-> trials whose seeds had the same answers."""
    rows = {(arm, weights, seed): found.rows_of(arm, 0, weights) for arm, weights, seed in found.rows}
    return dataclasses.replace(found, rows=rows)


# Who leads, and what is noise.


def test_leaders_are_the_best_and_all_that_are_not_surely_worse(found):
    for measure in main_table.main_columns(found):
        first, *level = main_table.leaders(found, measure)
        values = {arm: found.value(measure, arm) for arm in found.main}
        good = {arm: x for arm, x in values.items() if not math.isnan(x)}
        assert good[first] == (min if measure.is_ppl else max)(good.values())
        for arm in good.keys() - {first}:
            assert main_table.significantly_better(found, measure, first, arm) == (arm not in level)


def test_leaders_are_bold(found):
    table = main_table.main_table(found)
    lines = main_table.main_markdown(found, table).splitlines()[2:]
    for j, measure in enumerate(main_table.main_columns(found)):
        bold = [line.split(" | ")[0].strip("| ") for line in lines if line.split(" | ")[2 + j].startswith("**")]
        assert set(bold) == set(main_table.leaders(found, measure)), measure.name


def test_equal_seeds_agree(found):
    same = twins(found)
    assert main_table.between_seeds(same, measures.ppl(EXTENDED)).value == pytest.approx(1.0)
    assert main_table.between_seeds(found, measures.ppl(EXTENDED)).value < 1.0
    assert all(line[1][1].value == 0.0 for line in main_table.noise_table(same).lines)  # no range


# Findings follow from the numbers.


def changed(found, worse):
    """-> the trials with the perplexities and scores of these arms (at a length) multiplied."""

    def row(r):
        factor = worse.get((r["method"], r["length"], r["benchmark"]))
        return r if factor is None or r["task"] == "position_nll" else r | {"value": factor * r["value"]}

    return dataclasses.replace(found, rows={key: [row(r) for r in rows] for key, rows in found.rows.items()})


def test_who_holds_beyond_follows_from_the_ratios(found):
    assert [arm for arm in ("pi", "ntk_32k", "clex") if beyond.holds(beyond.ppl_ratio(found, arm))] == [
        "ntk_32k",
        "clex",
    ]
    assert beyond.breaks(beyond.ppl_ratio(found, "pi"))
    worse = changed(found, {("ntk_32k", 4096, "perplexity"): 3.0})
    assert beyond.breaks(beyond.ppl_ratio(worse, "ntk_32k"))
    first, second = (beyond.beyond_finding(x, ["base", "pi", "ntk_32k"]) for x in (found, worse))
    assert "both hold for ntk_32k; neither holds for pi." in first
    assert "both hold for none; neither holds for pi." in second


def test_the_share_that_is_kept_is_of_scores_that_can_be_lost(found):
    number = beyond.ruler_share(found, "clex")
    near, far = measures.ruler(EXTENDED), measures.ruler(2 * EXTENDED)
    parts = [found.number_of_seed(far, "clex", s).value / found.number_of_seed(near, "clex", s).value for s in (0, 1)]
    assert number.value == pytest.approx(sum(parts) / 2)
    assert beyond.ruler_share(changed(found, {("clex", EXTENDED, "ruler"): 0.1}), "clex") is None


def test_claims_turn_with_the_numbers(found):
    verdicts = [claims.works_beyond(found, arm, goes_on).verdict for arm, goes_on in claims.BEYOND.items()]
    assert verdicts == [claims.HOLDS] * 4
    assert claims.works_beyond(found, "ntk_32k", False).verdict == claims.NOT
    assert claims.works_beyond(found, "pi", True).verdict == claims.NOT
    slow = changed(found, {("pi", TRAINED, "perplexity"): 1.2})
    assert claims.works_beyond(slow, "pi", False).verdict == claims.OPEN  # not recovered
    broken = {(arm, 4096, benchmark): 3.0 if benchmark == "perplexity" else 0.0
              for arm in claims.NTK for benchmark in ("perplexity", "ruler")}  # fmt: skip
    assert claims.works_beyond(changed(found, broken), "ntk_32k", True).verdict == claims.NOT
    half = {key: x for key, x in broken.items() if key[2] == "ruler"}
    # perplexity says yes, RULER no
    assert claims.works_beyond(changed(found, half), "ntk_32k", True).verdict == claims.OPEN
    assert claims.works_within(found).verdict == claims.HOLDS
    assert claims.works_within(changed(found, {("pi", EXTENDED, "perplexity"): 2.0})).verdict == claims.NOT
    assert claims.window_loses_needle(found).verdict == claims.HOLDS
    assert (
        claims.window_loses_needle(changed(found, {("lm_infinite", EXTENDED, "perplexity"): 2.0})).verdict == claims.NOT
    )


@pytest.mark.parametrize(
    ("ruler", "needle", "verdict"),
    [
        (["ntk_64k", "ntk_32k"], ["ntk_32k"], claims.HOLDS),
        (["ntk_32k", "clex"], ["pi", "ntk_64k"], claims.OPEN),  # not surely ahead; not surely behind
        (["clex"], ["pi", "yarn"], claims.NOT),
        (["ntk_32k"], ["pi"], claims.OPEN),  # they say different things
        ([], [], claims.UNRUN),
    ],
)
def test_the_best_is_who_surely_leads(found, monkeypatch, ruler, needle, verdict):
    monkeypatch.setattr(claims, "leaders", lambda _, measure: ruler if measure.benchmark == "ruler" else needle)
    assert claims.ntk_is_best(found).verdict == verdict


def test_pairs_must_surely_be_so(found):
    measure = measures.ppl(EXTENDED)
    assert claims.compare_groups(found, measure, ["ntk_32k"], ["lm_infinite"])[0] == claims.HOLDS
    assert claims.compare_groups(found, measure, ["lm_infinite"], ["ntk_32k"])[0] == claims.NOT
    assert claims.compare_groups(found, measure, ["pi"], ["pi"])[0] == claims.OPEN
    assert claims.compare_groups(found, measure, ["pi"], ["dca"])[0] == claims.UNRUN


def test_correlations_are_over_methods_and_without_failures(found):
    ppl, score = measures.ppl(EXTENDED), measures.ruler(EXTENDED)
    points = against_scores.method_points(found, ppl, score, "exact")
    assert [arm for arm, *_ in points] == ["pi", "ntk_32k", "ntk_64k", "yarn", "clex", "ntk_frozen"]  # no base
    able = [arm for arm, *_ in against_scores.without_failures(found, ppl, score, "exact")]
    assert able == ["pi", "ntk_32k", "ntk_64k", "yarn", "clex"]  # ntk_frozen has broken down
    slow = changed(found, {("pi", TRAINED, "perplexity"): 1.2})
    assert [arm for arm, *_ in against_scores.without_failures(slow, ppl, score, "exact")] == [
        "ntk_32k",
        "ntk_64k",
        "yarn",
        "clex",
    ]
    rho, _ = against_scores.coefficients(points)
    assert rho.value < 0


def test_ranks_beside_those_of_the_paper(found):
    pairs = paper.common_ranks(found, "RULER", measures.ruler(EXTENDED))
    assert pairs["ntk_64k"][1] == 1
    assert pairs["ntk_32k"] == (1, 2)
    assert pairs["ntk_frozen"][1] == len(pairs)
    tied = paper.common_ranks(found, "PPL", measures.ppl(EXTENDED))
    assert tied["pi"][1] == tied["yarn"][1] == tied["ntk_64k"][1] == 4  # 5.9, after 5.79 and 5.8
    assert "ntk_frozen" in tied
    assert "self_extend" not in tied  # has none in the paper


# The page.


def test_all_that_the_page_shows_is_there(page):
    text = (page / "STUDY.md").read_text()
    links = [path for path in re.findall(r"\]\(([^)]+)\)", text) if not path.startswith("http")]
    heads = {study_page.anchor(line) for line in text.splitlines() if line.startswith("#")}
    assert {path[1:] for path in links if path.startswith("#")} <= heads
    links = [path for path in links if not path.startswith("#")]
    figures = ("overview", "perplexity", "ruler_2048", "pretraining", "training")
    assert {"scores.csv", *(f"figures/{name}.png" for name in figures)} <= set(links)
    for path in links:
        assert (page / path).stat().st_size > 0, path
    assert {f"figures/{path.name}" for path in (page / "figures").iterdir()} <= set(links)
    assert "What we think of it." in text
    assert "- with the defaults of their methods: base, pi, " in text
    study = json.loads((page / "study.json").read_text())
    assert study["arms"]["pi"]["method"] == "pi(factor=8.0)"
    assert study["settings"]["trained_len"] == TRAINED
    assert "Device: a made one; a training took 30 to 30 s" in text
    assert text.isascii()
    assert "nan" not in re.findall(r"[a-z]+", text.split("<details>")[0])


def test_the_page_is_the_same_again(folder, page, tmp_path, monkeypatch):
    for name in ("write_overview", "write_study_figures"):
        monkeypatch.setattr(study_page, name, lambda trials, folder: [])  # figures take longest
    study_page.write_study_page(folder, tmp_path)
    for name in ("scores.csv", "positions.csv", "study.json"):
        assert (tmp_path / name).read_bytes() == (page / name).read_bytes()
    again = [line for line in (tmp_path / "STUDY.md").read_text().splitlines() if line]
    first = (page / "STUDY.md").read_text().splitlines()
    assert [line for line in again if line not in first] == []


def test_every_score_leads_to_its_records(folder, rows, page):
    lines = list(csv.DictReader((page / "scores.csv").read_text().splitlines()))
    rows = [r for r in rows if r["task"] != "position_nll"]
    assert len(lines) == len(rows)
    for path in {line["records"] for line in lines}:
        assert (folder / path).is_file()
    mine = [x for x in lines if (x["arm"], x["weights"], x["seed"], x["task"]) == ("pi", "ema", "1", "perplexity")]
    nested = {int(x["length"]): float(x["value"]) for x in mine if x["variant"].startswith("nested")}
    assert set(nested) == set(LENGTHS)
    (row,) = [r for r in rows if r["records"] == next(x["records"] for x in mine if x["length"] == "128")]
    assert nested[128] == pytest.approx(row["value"], rel=1e-5)


def test_tables_are_data_too(found, page):
    study = json.loads((page / "study.json").read_text())
    main = study["tables"][0]
    assert main["columns"] == [m.name for m in main_table.main_columns(found)]
    for line in main["lines"]:
        for measure, cell in zip(main_table.main_columns(found), line["cells"], strict=True):
            number = found.number(measure, line["name"])
            assert (cell is None) == (number is None)
            assert cell is None or cell["value"] == number.value
    assert len(study["sections"]) == len(study_page.QUESTIONS) + 1


@pytest.mark.parametrize(("arms", "seeds"), [(("base",), (0,)), (("pi", "self_extend_w512_g16"), (0, 1))])
def test_what_was_not_run_does_not_break_the_page(tmp_path, arms, seeds):
    run = write_study(tmp_path / "run", arms, seeds, windows=2, samples=1, lengths=(256, 2048))
    study_page.write_study_page(run, tmp_path / "out")
    text = (tmp_path / "out" / "STUDY.md").read_text()
    assert "Not run: " in text
    if len(seeds) == 1:
        assert "One seed was run" in text


def test_mistakes_have_a_line(tmp_path):
    with pytest.raises(ValueError, match=r"--run_dir=.* is no study: neither"):
        study_page.write_study_page(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match=r"--run_dir=.* has no finished evaluations"):
        trials.read_trials(tmp_path, 1, 2)


def test_words():
    assert join_names([]) == "none"
    assert join_names(["a"]) == "a"
    assert join_names("abc") == "a, b and c"


def test_parameters_are_counted_as_the_model_has_them():
    """110 M: 2 x 4096 x 1024 for tokens, and 8 layers of 12.85 M."""
    model = {"vocab": 4096, "dim": 1024, "layers": 8, "heads": 8, "kv_heads": 8, "ffn": 2816, "head_width": None}
    layer = 4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024
    assert summary.model_size({"preset": {"model": model}}) == 2 * 4096 * 1024 + 8 * layer + 1024
    assert summary.model_size({}) == 0


def test_made_arms_are_those_that_a_study_may_have():
    assert set(made_study.MAIN) | {"leaky_rerope"} == set(trials.MAIN)


# The recommendation.


def test_a_recommendation_names_the_best_and_what_cannot_be_told_from_it(tmp_path):
    """The made study's ntk_32k recalls most; self_extend is the best without training; costs are those of the rows."""
    arms = ["base", "control", "ntk_32k", "pi", "self_extend", "self_extend_on_control", "lm_infinite"]
    folder = write_study(tmp_path, arms, windows=8, samples=8, lengths=LENGTHS)
    memory = folder / "seed_0" / "methods" / "ntk_32k" / "memory.txt"
    memory.write_text("memory of a device    GiB\n  estimate   3.20\n  compiled    2.50\n")
    found = trials.read_trials(folder, TRAINED, EXTENDED)
    head, lines = recommendation.recommendation(found)
    assert f"By RULER {EXTENDED} at {EXTENDED} tokens" in head
    quality, frozen, cost, control = lines.splitlines()
    assert quality.startswith(f"- **For quality: ntk_32k**: RULER {EXTENDED} ")
    assert "+- " in quality
    assert "0.5 minutes of training, 2.5 GiB" in quality
    assert frozen.startswith("- **Without training: self_extend**")
    assert "on_control**" not in frozen + cost
    assert cost.startswith("- **For the cost: ")
    assert "after training on the same tokens without extension (control)" in control
    best = recommendation.quality_measure(found)
    level = recommendation.alike(found, best, ["ntk_32k", "pi"])
    assert level[0] == "ntk_32k"
    assert ("pi" in level) == (not significantly_better(found, best, "ntk_32k", "pi"))


def test_nothing_is_recommended_without_methods(tmp_path):
    folder = write_study(tmp_path, ["base"], windows=4, samples=2, lengths=LENGTHS)
    assert recommendation.recommendation(trials.read_trials(folder, TRAINED, EXTENDED)) == []
