"""Sections that answer single questions: every rule of a finding on numbers that decide it, and nothing that is missing
breaks a page.
"""

import dataclasses
import json
import math

import numpy as np
import pytest

import made_study
from longjax.methods import METHODS
from longjax.report.measures import needle, ppl, ruler
from longjax.report.rows import Number
from longjax.report.stats.bootstrap import Paired
from longjax.report.study import trials as study_trials
from longjax.report.study.questions import (
    averaging,
    comparisons,
    cost,
    landmark_memory,
    position_tables,
    rankings,
    scorers,
    self_extend_grid,
)
from longjax.report.study.questions.comparisons import Pair
from longjax.report.study.questions.self_extend_grid import Cell
from longjax.report.study.trials import Trials, Versus
from longjax.report.tables import Column, markdown
from test_branches import distances

PARTS = (position_tables, landmark_memory, averaging, self_extend_grid, scorers, cost)
END = made_study.EXTENDED
NAMES = (
    "base", "pi", "ntk_32k", "ntk_64k", "clex", "yarn", "landmark", "longlora", "self_extend", "lm_infinite",
    "pi_ds_bf16", "ntk_32k_ds_bf16", "yarn_batch32", "self_extend_w256_g8", "self_extend_w512_g64",
    "self_extend_octaves_w512", "leaky_rerope",
)  # fmt: skip


def costs(names, length=END):
    rows = []
    for i, name in enumerate(names):
        program = "base" if made_study.ARMS[name][0] in ("base", "exact trained") or name == "longlora" else name
        slow = 1.0 if program == "base" else 1.0 + 0.1 * i
        about = {"case": name, "program": "methods", "method": name, "measured_as": program, "length": length}
        rows.append(about | {"prefill_ms": 9 * slow, "decode_ms": slow, "prefill_gib": slow, "decode_gib": 0.5})
    return {"benchmark": "methods", "machine": {"machine": "1 x made"}, "rows": rows}


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    run = made_study.write_study(
        tmp_path_factory.mktemp("study") / "run", NAMES, windows=8, samples=3, lengths=(128, 256, 2048, 4096)
    )
    (run / cost.FILE).write_text(json.dumps(costs([name for name in NAMES if name in made_study.MAIN])))
    return study_trials.read_trials(run, made_study.TRAINED, END)


@pytest.fixture(scope="module")
def sections(trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return {part: part.section(trials, folder) for part in PARTS}, folder


@pytest.mark.parametrize("part", PARTS)
def test_a_section_has_its_tables_figures_and_findings(sections, part):
    section, folder = sections[0][part], sections[1]
    assert section.title.endswith("?")
    assert section.finding
    assert section.command.startswith("python -m ")
    assert section.tables
    for table in section.tables:
        assert len(table.csv().splitlines()) == len(table.lines) + 1 > 1
        assert "nan" not in markdown(table.text())
    assert len({table.file for table in section.tables}) == len(section.tables)
    for name, title in section.figures:
        assert (folder / name).stat().st_size > 5000
        assert title.endswith(".")
    assert "nan" not in section.finding
    assert "None" not in section.finding
    assert section.finding.endswith(".")
    assert "\n" not in section.finding


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("names", [("base",), ("landmark", "pi"), ("self_extend", "self_extend_w256_g8", "ntk_32k")])
def test_what_was_not_run_is_listed(part, names, tmp_path):
    """One seed, few arms, perplexity at two lengths: still a page."""
    run = made_study.write_study(tmp_path / "run", names, seeds=(1,), windows=2, samples=1, lengths=(256, 2048))
    section = part.section(study_trials.read_trials(run, made_study.TRAINED, END), tmp_path)
    assert section.missing
    assert "nan" not in section.finding


def test_all_sections_know_trials_without_any_evaluation_of_theirs(tmp_path):
    rows = {("pi", "raw", 0): [{"benchmark": "short", "task": "x", "kind": "exact trained", "length": None}]}
    for part in PARTS:
        section = part.section(Trials(rows, tmp_path, made_study.TRAINED, END), tmp_path)
        assert section.missing
        assert not section.figures


# Rules, each on numbers that decide it


@dataclasses.dataclass(frozen=True, eq=False)
class Fake:
    """Trials of which only the values and differences are asked."""

    values: dict
    arms: list
    main: tuple = ()
    trained: int = 2048
    extended: int = 16384
    seeds: tuple = (0, 1)

    def value(self, measure, arm, weights=None):
        return self.values.get((measure.name, arm), math.nan)

    def versus(self, measure, a, b, weights_a=None, weights_b=None):
        x, y = self.value(measure, a), self.value(measure, b)
        return versus(x - y) if math.isfinite(x - y) else None

    def kind(self, arm):
        return "exact trained"


def versus(*differences, spread=0.01):
    parts = [Paired(0.0, d, 9, 9, d + spread * np.linspace(-1, 1, 101)) for d in differences]
    return Versus(dict(enumerate(parts)), study_trials.mean_of(parts))


def test_a_difference_is_sure_if_its_interval_and_all_seeds_agree():
    lower, higher, torn = versus(-0.3, -0.2, spread=0.02), versus(0.3, 0.2), versus(-0.1, 0.9)
    assert [comparisons.verdict(x, ppl(8)) for x in (lower, higher, torn)] == ["better", "worse", "within noise"]
    assert [comparisons.verdict(x, ruler(8)) for x in (lower, higher)] == ["worse", "better"]
    assert comparisons.verdict(versus(0.3, 0.2, spread=9.0), ppl(8)) == "within noise"
    number = comparisons.difference_number(lower, ruler(8).column)
    assert (number.value, number.half_range, number.mark) == (
        pytest.approx(-0.25), pytest.approx(0.05), "-26.9 to -23.1",
    )  # fmt: skip


def test_a_change_of_relations_is_named():
    m = ppl(16384)
    values = {"pi": 9.0, "ntk_64k": 9.5, "clex": 9.7, "pi_ds_bf16": 9.6}
    text = rankings.lead_changes(fake(m, values), ["pi"], [m])
    assert text == f"By {m.name} leads turn round (pi over ntk_64k)."
    text = rankings.lead_changes(fake(m, values | {"pi_ds_bf16": 9.1}), ["pi"], [m])
    assert text == "No significant lead becomes a tie, turns round, or appears."
    text = rankings.lead_changes(fake(m, values | {"pi_ds_bf16": 9.505}), ["pi"], [m])  # behind by less than noise
    assert text == f"By {m.name} leads become ties (pi over ntk_64k)."
    text = rankings.lead_changes(fake(m, values | {"pi": 9.495}), ["pi"], [m])
    assert text == f"By {m.name} ties become leads (ntk_64k over pi)."


def test_whom_the_tables_harm():
    m = ruler(16384)
    values = {"yarn": 0.5, "yarn_ds_bf16": 0.3, "ntk_32k": 0.5, "ntk_32k_ds_bf16": 0.501}
    assert position_tables.harm(fake(m, values), ["yarn", "ntk_32k"], [m]) == (
        "Significantly worse with rounded tables: yarn (RULER 16384 -20.0); not worse: ntk_32k."
    )


def fake(m, values):
    return Fake({(m.name, arm): x for arm, x in values.items()}, list(values))


def test_a_clause_sorts_and_names():
    m = ppl(16384)
    fake = Fake({(m.name, "a"): 9.0, (m.name, "b"): 9.5, (m.name, "c"): 9.004}, list("abc"))
    pairs = [("b", Pair("b", "a")), ("c", Pair("c", "a"))]
    assert comparisons.clause(fake, pairs, m) == "worse for b +0.50, within noise for c +0.00"
    assert comparisons.clause(fake, pairs, ruler(16384)) == ""


def test_what_is_too_small_is_no_difference():
    """A thousandth of a perplexity is within noise, however narrow its interval."""
    found = versus(-0.012, spread=1e-6)
    assert found.significant
    assert not dataclasses.replace(found, negligible=0.0121).significant


@pytest.mark.parametrize(("length", "count"), [(256, 256), (2048, 641), (16384, 1025), (32768, 1153)])
def test_bfloat16_distinguishes_few_positions(length, count):
    """256 up to 256, then 128 an octave, and the end, to which the last ones are rounded."""
    assert position_tables.distinct_positions(length) == count


def test_cells_within_the_context_beside_the_others():
    m, grid = ppl(16384), {Cell(512, 8): "a", Cell(512, 16): "b", Cell(1024, 16): "c"}
    fake = Fake({(m.name, "a"): 12.0, (m.name, "b"): 9.0, (m.name, "c"): 9.005}, list("abc"))
    assert self_extend_grid.best_cell(fake, grid, m) == f"Best by {m.name}: window 512 group 16 (9.00)."
    text = self_extend_grid.within_context(fake, grid, [m])
    assert text.startswith("Any window and group will do whose largest position stays within 2048: such cells have ")
    assert text.endswith(f"{m.name} 9.00 to 9.01, the 1 others 12.00 to 12.00.")
    worse = Fake(fake.values | {(m.name, "c"): 9.5}, list("abc"))  # a cell inside that is 6 % off
    assert self_extend_grid.within_context(worse, grid, [m]).startswith(
        "By whether the largest position stays within 2048: "
    )


@pytest.mark.parametrize(("window", "group", "length"), [(16, 4, 48), (12, 3, 41), (8, 8, 33)])
def test_the_largest_position_is_that_of_the_method(window, group, length):
    found = np.nanmax(distances(METHODS["self_extend"](window, group), length))
    assert Cell(window, group).largest(length) == found


def test_the_main_arm_is_a_cell_of_the_grid(trials):
    assert list(self_extend_grid.grid_arms(trials).items()) == [
        (Cell(256, 8), "self_extend_w256_g8"), (Cell(512, 16), "self_extend"), (Cell(512, 64), "self_extend_w512_g64"),
    ]  # fmt: skip


def test_no_point_on_a_front_is_beaten():
    rng = np.random.default_rng(0)
    found = [(str(i), float(x), float(y)) for i, (x, y) in enumerate(rng.integers(0, 6, (30, 2)))]
    for m, sign in ((ppl(8), 1), (ruler(8), -1)):
        best = {name for name, *_ in cost.pareto_front(found, m)}
        for name, x, y in found:
            beaten = any(a <= x and sign * b <= sign * y and (a, b) != (x, y) for _, a, b in found)
            assert (name in best) != beaten


def test_methods_of_one_program_cost_the_same(sections):
    section = sections[0][cost]
    assert section.finding == "The best by RULER 2048, ntk_64k (64.1), costs what full attention does."
    costs = {who.label: [x.value for x in numbers[2:5]] for who, numbers in section.tables[0].lines}
    assert {name for name, x in costs.items() if x == [9.0, 1.0, 1.0]} == {
        "base", "pi", "ntk_32k", "ntk_64k", "clex", "yarn", "longlora",
    }  # fmt: skip
    assert costs["landmark"][0] > 9.0


def test_a_torn_file_of_costs_is_named(trials, tmp_path):
    folder = tmp_path / "study" / "figures"
    (tmp_path / "benchmarks").mkdir()
    path = tmp_path / "benchmarks" / cost.FILE
    elsewhere = Trials(trials.rows, tmp_path, trials.trained, trials.extended)
    assert cost.read_costs(elsewhere, folder) is None
    path.write_text('{"rows": [{"length"')
    with pytest.raises(ValueError, match=r"methods.json is not what benchmarks.methods writes: run python -m"):
        cost.read_costs(elsewhere, folder)


def test_scorers_that_disagree(trials):
    """Arms in the order of one scorer; the other one moves the last to the front."""
    arms = ["base", "pi", "yarn", "clex", "ntk_32k"]
    ours, other = ({"base": 0.9, "pi": 0.8, "yarn": 0.7, "clex": 0.6, "ntk_32k": last} for last in (0.5, 1.0))
    pair = [
        scorers.ScoreVariant(Column(name), lambda arm, x=x: Number(x[arm]))
        for name, x in (("facts", ours), ("overlap", other))
    ]
    assert scorers.rank_correlation(*pair, arms).value == pytest.approx(0.0)
    assert scorers.rank_correlation(pair[0], pair[0], arms).value == pytest.approx(1.0)
    first, second = (scorers.places(scorer, arms) for scorer in pair)
    assert first == {"base": 1, "pi": 2, "yarn": 3, "clex": 4, "ntk_32k": 5}
    assert second == {"base": 2, "pi": 3, "yarn": 4, "clex": 5, "ntk_32k": 1}


def test_word_overlap_is_scored_from_the_same_answers(sections, trials):
    (table,) = [t for t in sections[0][scorers].tables if t.file == "f_needle_scorers"]
    heads = [c.head for c in table.columns]
    for who, numbers in table.lines:
        facts, overlap = (numbers[heads.index(name)] for name in ("facts", "word overlap"))
        assert facts == trials.number(needle(), who.method)
        assert facts.n == overlap.n


def test_weights_are_compared_with_themselves(sections, trials):
    table = sections[0][averaging].tables[0]
    found = {who.method: numbers for who, numbers in table.lines}
    assert list(found) == [a for a in trials.main if made_study.ARMS[a][0].endswith(" trained")]
    m = ppl(END)
    want = trials.value(m, "pi", "ema") - trials.value(m, "pi", "raw")
    # paired over windows of both seeds, which weigh alike
    assert found["pi"][1].value == pytest.approx(want, rel=1e-9)
    assert Pair("pi", "pi", "ema", "raw").versus(trials, m).difference == found["pi"][1].value


def test_parts_add_up_to_their_window():
    """Weighed by their lengths; a window with a part that is not finite is none."""
    about = {"n": 10, "document": 0}
    parts = [{"start": 0, "weight": 0.75, "nll": 20.0}, {"start": 0, "weight": 0.25, "nll": 40.0}]
    torn = [{"start": 9, "weight": 0.5, "nll": None}, {"start": 9, "weight": 0.5, "nll": 1.0}]
    found = landmark_memory.window_losses({"task": [about | r for r in parts + torn]})
    assert found == {(0, 0): 0.75 * 2 + 0.25 * 4}


def test_memory_is_compared_over_the_same_windows(trials):
    found = landmark_memory.memory_difference(trials, END)
    kept, lost = (trials.value(ppl(END, p), "landmark") for p in ("lceg", "landmark_lceg"))
    assert set(found.by_seed) == {0, 1}
    assert found.difference == pytest.approx(kept - lost, rel=1e-9)
    assert f"perplexity is {kept:.2f} with its memory and {lost:.2f} without" in landmark_memory.memory_finding(
        END, found
    )
