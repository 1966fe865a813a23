"""Who has not recovered, and what the base can do inside its context: rules on numbers that decide them."""

import json

import pytest

import made_study
from longjax.report import measures
from longjax.report.study import base_check, recovery, trials

NAMES = ("base", "pi", "ntk_32k", "longlora", "self_extend")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    run = made_study.write_study(
        tmp_path_factory.mktemp("study") / "run", NAMES, windows=8, samples=3, lengths=(64, 128, 256, 2048)
    )
    for seed in (0, 1):
        for name, loss in (("pi", lambda i: 3.0 - 0.01 * i), ("ntk_32k", lambda i: 2.0), ("longlora", lambda i: 4.0)):
            hard = [0.5 * (i % 3) for i in range(12)]  # of the rows, which all have
            norm = 1e12 if name == "longlora" else 1.0
            steps = [{"step": i, "loss": loss(i) + hard[i], "grad_norm": norm, "tokens_seen": 100_000 * (i + 1)}
                     for i in range(12)]  # fmt: skip
            path = run / f"seed_{seed}" / "methods" / name / "metrics.jsonl"
            path.write_text("".join(json.dumps(step) + "\n" for step in steps))
    return trials.read_trials(run, made_study.TRAINED, made_study.EXTENDED)


def test_the_bound_is_that_of_the_base(found):
    """Made losses are 0.08, 0.03 and 0.2 nats above the base's: factors of 1.08, 1.03 and 1.22."""
    assert recovery.unrecovered(found) == ["longlora"]
    assert recovery.recovered(found, found.main) == ["base", "pi", "ntk_32k", "self_extend"]
    own = measures.ppl(made_study.TRAINED)
    parts = [found.number_of_seed(own, "pi", s).value / found.number_of_seed(own, "base", s).value for s in (0, 1)]
    assert recovery.recovery_ratio(found, "pi").value == pytest.approx(sum(parts) / 2)


def test_a_training_loss_is_read_without_the_hardness_of_rows(found):
    level, slope = recovery.last_quarter(found, "pi")
    assert level.value == pytest.approx(1.0 - 0.01 * 10)
    assert slope.value == pytest.approx(-0.1)  # nats for 10 updates
    assert [x.value for x in recovery.last_quarter(found, "ntk_32k")] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_sentences_hold_the_numbers(found):
    text = recovery.recovery_finding(found)
    assert text.startswith("After an extension of 1.2 M tokens (the paper's: 1 B) 1 of 3 trained methods have not rec")
    assert f"longlora ({found.value(measures.ppl(256), 'longlora'):.1f})" in text
    assert recovery.left_out(found, ["pi", "longlora"]) == (" Left out: longlora (not recovered at 1.2 M tokens).")
    assert recovery.left_out(found, ["pi"]) == ""
    norms = {who.label: numbers[-1].value for who, numbers in recovery.recovery_table(found).lines}
    assert norms == {"pi": 1.0, "ntk_32k": 1.0, "longlora": 1e12}


def test_what_the_base_can_do_is_split_at_the_bound(found):
    names = base_check.base_finding(found).split("or more of ")[1].split(";")[0].replace(" and ", ", ").split(", ")
    tests = base_check.base_measures(found)
    assert set(names) == {name for name, m in tests.items() if found.value(m, "base") >= base_check.KNOWN}
    assert 0 < len(names) < len(base_check.base_table(found).lines) == len(tests) == 17
