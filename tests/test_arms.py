"""The arms of a study, the workers that run them, and what they are asked."""

import dataclasses
import pathlib
import time

import pytest

from longjax.data import write_store
from longjax.data.corpus import Document
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.methods import METHODS
from longjax.methods.ds_bf16 import DeepSpeedTables
from longjax.progress import MultiProgress
from longjax.study import arms, eval_data, workers
from longjax.study.config import AtLengths, Variant
from longjax.study.presets import H200_100M, MINI

BASE = pathlib.Path(__file__).parent.parent / "longjax" / "bases" / "mini"


def test_every_method_of_a_study_is_put_to_its_tests():
    for preset in (MINI, H200_100M):
        for name in preset.methods:
            arm = arms.method_arm(preset, name)
            assert arm.train_method is None
            assert arm.recipe == preset.extend
            assert set(preset.tests) >= {*arm.tests, *arm.raw_weight_tests}


def test_tests_of_one_method_alone():
    landmark, pi = (arms.method_arm(H200_100M, name) for name in ("landmark", "pi"))
    assert "perplexity_landmark" in landmark.tests
    assert {*landmark.tests} - {*pi.tests} == {"perplexity_landmark"}


def test_variants_differ_in_what_they_say_and_in_nothing_else():
    found = {arm.name: arm for arm in arms.variant_arms(H200_100M)}
    yarn, larger = found["yarn_ds_bf16"], found["yarn_batch32"]
    assert yarn.method == larger.method == METHODS["yarn"]()
    assert isinstance(yarn.train_method.rope, DeepSpeedTables)
    assert yarn.recipe == H200_100M.extend
    recipe = larger.recipe
    assert recipe.steps * recipe.batch_size == yarn.recipe.steps * yarn.recipe.batch_size  # the same tokens
    assert dataclasses.replace(recipe, batch_size=4, steps=200, warmup=10, ema_decay=0.98) == yarn.recipe
    assert larger.tests == H200_100M.raw_weight_tests
    assert list(found) == list(H200_100M.variants)


def test_a_variant_keeps_the_settings_of_its_preset():
    preset = dataclasses.replace(MINI, variants={"x": Variant("self_extend", {"group": 8})})
    (arm,) = arms.variant_arms(preset)
    assert arm.method == METHODS["self_extend"](**MINI.settings["self_extend"] | {"group": 8})


def test_workers_share_cores_and_gpus():
    slots = workers.make_slots(4, ["3", "5"], 0.2)
    assert [slot.gpu for slot in slots] == ["3", "5", "3", "5"]
    cores = [core for slot in slots for core in slot.cores]
    assert len(cores) == len(set(cores))
    assert all(slot.gpu is None for slot in workers.make_slots(2, [], 0.2))


@dataclasses.dataclass(frozen=True)
class Sum:
    """A job that says who did it, or fails."""

    name: str
    fails: bool = False

    def __call__(self, report):
        if self.fails:
            raise ValueError(f"{self.name} failed")
        report(1.0, "done")


def test_a_job_that_fails_leaves_the_others_alone(tmp_path):
    jobs = [Sum("a"), Sum("b", fails=True), Sum("c"), Sum("d")]
    board = MultiProgress(dict.fromkeys("abcd", 1.0), period=0)
    with pytest.raises(ValueError, match="b failed"):
        workers.WorkerPool(2, tmp_path, board).run(jobs)
    for _ in range(100):  # what they said is on its way
        if board.done == {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}:
            return
        time.sleep(0.1)
    raise AssertionError(board.done)


def test_held_out_text_is_all_of_a_split_and_nothing_else(tmp_path):
    names = [f"book {i}" for i in range(60)]
    documents = [Document(name, f"Of {name}.\nIt says {name} again, twice.\n" * 20) for name in names]
    store = write_store(tmp_path / "store", documents, Tokenizer(BASE))
    eval_data.write_eval_data(tmp_path / "eval", store, "test", Tokenizer(BASE), seed=0)
    text = (tmp_path / "eval" / "haystack" / "held_out.txt").read_text()
    mine = [d.text for d in documents if d.split == "test"]
    assert mine
    assert sorted(text.split("\n")) == sorted("\n".join(mine).split("\n"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "eval").rglob("*")}
    eval_data.write_eval_data(tmp_path / "eval", store, "test", Tokenizer(BASE), seed=0)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "eval").rglob("*")}


def test_a_test_at_lengths_of_its_own():
    asked = []

    class Spy:
        def tasks(self, ctx):
            asked.append((ctx.lengths, ctx.max_examples))
            return []

    AtLengths(Spy(), (1, 2), 3).tasks(EvalContext(pathlib.Path(), Tokenizer(BASE), (64,)))
    assert asked == [((1, 2), 3)]
