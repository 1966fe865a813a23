"""Settings out of range are refused before anything starts, in one line that names the flag."""

import dataclasses
import math
import re

import pytest

from longjax.cli.eval_options import EvalOptions
from longjax.cli.options import ExperimentOptions, MeshOptions
from longjax.cli.prepare_data import PrepareDataOptions, name_and_number, plan_parts, source_shares
from longjax.data.selection import Rule
from longjax.ranges import check_memory
from longjax.study.presets import PRESETS
from longjax.training.recipe import Recipe
from longjax.training.trainer import LoopConfig

WRONG = {
    Recipe: {
        "steps": (0, -1), "batch_size": (0, -4), "micro_batch_size": (0, -1), "learning_rate": (0, -1, math.nan, 1e39),
        "warmup": (-1,), "min_lr_ratio": (-0.1, 1.1, math.nan), "weight_decay": (-0.1, math.nan, math.inf),
        "b1": (-0.1, 1, math.nan), "b2": (1, 2, 1 - 1e-9), "eps": (0, -1e-8, math.nan, 1e-46),
        "max_grad_norm": (0, -1, math.nan), "frequency_rate": (-1, math.nan), "ema_decay": (-0.5, 1, 2, math.nan),
        "spike_sigmas": (-1, math.nan), "seed": (-1,),
    },
    LoopConfig: {
        "save_every": (0, -1), "max_to_keep": (0, -1), "keep_period": (0, -2), "eval_every": (-1,),
        "max_skipped_steps": (-1,),
    },
    ExperimentOptions: {
        "length": (0, -1), "base_steps": (0, -1), "base_batch_size": (0,), "lora_rank": (0, -1),
        "lora_alpha": (0, math.nan),
    },
    MeshOptions: {"mesh_data": (0, -1), "mesh_model": (0,), "process": (-1,)},
    PrepareDataOptions: {
        "tokens": (0, -1, math.inf, math.nan), "boost_to": (-1, math.nan, math.inf), "keep": (), "seed": (-1,),
        "min_length": (-1,), "length": (0, 2**63 - 1), "held_out": (math.nan, -0.1, 1.1),
    },
}  # fmt: skip


EVALUATION = ("batch_tokens", 0), ("num_samples", 0), ("max_length", 0), ("max_compilations", -1), ("seed", -1)


@pytest.mark.parametrize(("name", "value"), EVALUATION)
def test_an_evaluation_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^--{name}={value} must be"):
        EvalOptions(**{name: value})


@pytest.mark.parametrize("value", ["0", "-4096", "4096,99999999999", "16777217", "4k", ""])
def test_lengths_that_no_text_has_are_refused(value):
    with pytest.raises(ValueError, match=f"^--lengths{f'={value}' if value else ' is empty'}"):
        EvalOptions(lengths=value)
    EvalOptions(lengths="1,16777216")


def test_what_no_memory_can_hold_is_refused_before_it_is_made(tmp_path):
    check_memory("--x", 2.0**20)
    with pytest.raises(ValueError, match=r"^--x=9 needs 2 GiB of memory, and there are 1 GiB: lower it$"):
        check_memory("--x=9", 2.0**31, 2.0**30)
    huge = 2**31 - 1
    for flag, recipe, more in (
        ("batch_size", Recipe(batch_size=huge), {}),
        ("base_batch_size", Recipe(), {"base_batch_size": huge, "from_scratch": True}),
    ):
        with pytest.raises(ValueError, match=rf"^--{flag}={huge}: a batch of rows of \d+ tokens needs .* GiB"):
            ExperimentOptions(run_dir=f"{tmp_path}/run", **more).workspace(PRESETS["mini"], recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "name", "value"), [(cls, name, x) for cls in WRONG for name in WRONG[cls] for x in WRONG[cls][name]]
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_flag(settings, name, value):
    with pytest.raises(ValueError, match=re.escape(f"--{name}={value} must be")):
        settings(**{name: value})
    if settings is Recipe:
        with pytest.raises(ValueError, match=f"^--{name}="):
            dataclasses.replace(Recipe(), **{name: value})


def test_the_ends_of_the_ranges_are_accepted():
    Recipe(steps=1, batch_size=1, warmup=0, min_lr_ratio=1.0, b1=0.0, ema_decay=0.0, weight_decay=0.0, eps=1e-30)
    LoopConfig(save_every=1, max_to_keep=1, keep_period=1, eval_every=0)


@pytest.mark.parametrize("text", ["P:inf", "P:nan", "P:-1", ":1", "P:x"])
def test_shares_and_parts_are_finite_numbers(text):
    with pytest.raises(ValueError, match=r"^--part: "):
        name_and_number(text, ":", "part")


def test_a_source_is_named_once_and_a_plan_is_not_part_of_itself(tmp_path):
    with pytest.raises(ValueError, match="names a source twice"):
        source_shares(PrepareDataOptions(shares="a=0.9,a=0.1"), None)
    with pytest.raises(ValueError, match="is one of its own --part"):
        plan_parts(PrepareDataOptions(plan=f"{tmp_path}/p", part=(f"{tmp_path}/x/../p:1",)))
    with pytest.raises(ValueError, match="must be finite"):
        Rule(tokens=10, shares={"a": math.nan})
