"""A whole run in small: from text to records, interrupted and resumed."""

import dataclasses
import pathlib

import numpy as np
import pytest

from longjax import report
from longjax.attention.blockwise import Blockwise
from longjax.evals.results import read_rows
from longjax.methods import METHODS, method
from longjax.progress import no_progress
from longjax.study import runner
from longjax.study.arms import method_arm
from longjax.study.config import DataStage
from longjax.study.paper_presets import perplexity_and_passkey
from longjax.study.presets import QUICK
from longjax.study.settings_file import write_or_check_settings
from longjax.study.workspace import open_workspace
from longjax.training.recipe import Recipe

BASE = str(pathlib.Path(__file__).parent / "base")
PRESET = dataclasses.replace(
    QUICK, extended=256, lengths=(128, 256), tests=perplexity_and_passkey(2, 1), characters=1_500_000,
    extend=Recipe(steps=4, batch_size=1, learning_rate=1e-3, warmup=1), attention=Blockwise(128, 128),
    extend_stages=(DataStage(passkey=0.5),), task_examples=(0, 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    space = open_workspace(str(tmp_path_factory.mktemp("study")), PRESET, None, BASE)
    space.prepare()
    return space


def copied(space, folder):
    """-> a workspace with the same tokens."""
    (folder / "store").mkdir(parents=True)
    for name in ("tokenizer.model", "store/manifest.json", "store/docs.npy", "store/tokens-00000.bin"):
        (folder / name).write_bytes((space.folder / name).read_bytes())
    return dataclasses.replace(space, folder=folder)


def records(space, name):
    clocks = ("seconds", "train_seconds", "tokens_per_second")
    return [{key: x for key, x in row.items() if key not in clocks} for row in read_rows(space.method_folder(name))]


def test_an_interrupted_run_ends_with_the_same_records(prepared, tmp_path):
    pi = method_arm(PRESET, "pi", METHODS["pi"](2.0))
    straight = copied(prepared, tmp_path / "straight")
    runner.run_arm(straight, pi, no_progress)
    broken = copied(prepared, tmp_path / "broken")
    often = runner.RunConfig(loop=runner.LoopConfig(save_every=1))

    def interrupt(fraction, doing):
        if "step 3/4" in doing or doing.startswith("passkey/study/128"):
            raise KeyboardInterrupt

    for _ in range(2):  # once in training, once in evaluation
        with pytest.raises(KeyboardInterrupt):
            runner.run_arm(broken, pi, interrupt, often)
    with (broken.method_folder("pi") / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # a line that was killed in the middle
    runner.run_arm(broken, pi, no_progress)
    assert records(broken, "pi") == records(straight, "pi")
    assert len(records(straight, "pi")) > 4


def test_what_fails_at_the_end_is_found_before_the_first_step(prepared, tmp_path):
    space, pi = copied(prepared, tmp_path / "run"), method_arm(PRESET, "pi", METHODS["pi"](2.0))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"file cannot be written"):
        runner.run_arm(space, pi, no_progress, runner.RunConfig(export_dir=str(tmp_path / "file")))
    short = dataclasses.replace(space, preset=dataclasses.replace(PRESET, lengths=(16,), tests=QUICK.tests))
    with pytest.raises(ValueError, match=r"--lengths=16: none has room"):
        runner.run_arm(short, dataclasses.replace(pi, tests=("needle_number",)), no_progress)
    assert not (space.folder / "methods").exists()


def test_the_seconds_of_a_training_are_no_part_of_the_identity_of_its_records(prepared, tmp_path):
    params, arm = runner.base_params(prepared, no_progress), method_arm(PRESET, "base")
    space, weights = copied(prepared, tmp_path / "run"), "raw"
    (space.method_folder("base") / "evals" / weights).mkdir(parents=True)
    runner.evaluate_arm(space, arm, params, (), weights, no_progress)
    (space.method_folder("base") / "metrics.jsonl").write_text('{"step": 0, "seconds": 5.0}\n')  # trained once more
    runner.evaluate_arm(space, arm, params, (), weights, no_progress)
    other = dataclasses.replace(arm, method=METHODS["yarn"](2.0))
    with pytest.raises(ValueError, match=r"run\.json differs in .*kind"):
        runner.evaluate_arm(space, other, params, (), weights, no_progress)


def test_the_base_is_what_it_should_be(prepared):
    base = runner.base_params(prepared, no_progress)
    arm = method_arm(PRESET, "base")
    runner.evaluate_arm(prepared, arm, base, arm.tests, "raw", no_progress)
    made = records(prepared, "base")
    ppl = {r["length"]: r["value"] for r in made if r["task"] == "perplexity"}
    keys = [r["partial"] for r in made if r["task"] == "passkey" and r["length"] == 128]
    assert ppl[128] < 16  # uniform is 512
    assert ppl[256] > 1.2 * ppl[128]  # it has not learned to go beyond its context
    assert np.mean(keys) > 0.9
    write_or_check_settings(prepared.folder / "settings.json", prepared.settings())
    assert "base" in report.write_report(prepared.folder)
    assert (prepared.folder / "perplexity.png").stat().st_size > 10_000


def test_two_studies_never_share_a_folder(prepared):
    write_or_check_settings(prepared.folder / "settings.json", prepared.settings())
    extend = dataclasses.replace(PRESET.extend, seed=1)
    other = dataclasses.replace(prepared, preset=dataclasses.replace(prepared.preset, extend=extend))
    with pytest.raises(ValueError, match="was written with other settings"):
        write_or_check_settings(other.folder / "settings.json", other.settings())


def test_kinds():
    assert method.category(METHODS["base"]()) == "base"
    assert method.category(METHODS["yarn"]()) == "exact trained"
    assert method.category(METHODS["ntk_frozen"]()) == "exact frozen"
    assert method.category(METHODS["longlora"]()) == "approximate trained"
    assert method.category(METHODS["self_extend"]()) == "approximate frozen"
