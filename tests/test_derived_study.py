"""A study without a preset: what follows from a checkpoint, and its plan."""

import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from longjax.attention.rope import inv_freq
from longjax.checkpoints.config_from_hf import method_of, model_of, on_base
from longjax.checkpoints.extension import from_all_it_reads
from longjax.cli import study as command
from longjax.config import LLAMA2_7B, TINY, ModelConfig
from longjax.methods import METHODS
from longjax.study import derived, merge, step_memory
from longjax.study.arms import method_arm, variant_arms
from longjax.study.derived import Goal, derived_config
from longjax.study.devices import Device, measure_devices
from longjax.study.study_plan import arm_costs, parameters

SMOLLM2 = ModelConfig(
    vocab=49_152, dim=576, layers=30, heads=9, kv_heads=3, ffn=1536, rope_base=1e5, tied=True, trained_len=8192
)
H200 = Device("NVIDIA H200", "gpu", 1, 139 * 2**30, 700e12)
LLAMA = {
    "model_type": "llama", "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_31 = LLAMA | {
    "num_key_value_heads": 8, "max_position_embeddings": 131_072, "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip


def test_llama_2_has_the_papers_parameters():
    """Tables 7 and 8 of arXiv:2409.12181: factor 8, alpha 29 and 57, theta 500,000, rate 2e-5, 32 rows."""
    study = derived_config(LLAMA2_7B, 32_768, 1e9, 16)
    assert study.settings["pi"] == study.settings["yarn"] == {"factor": 8.0}
    assert study.settings["ntk_64k"] == {"alpha": 57.0}
    assert method_arm(study, "ntk_32k").method.rope.alpha(LLAMA2_7B, 32_768) == 29.0
    assert study.settings["theta"] == {"base": 500_000.0}
    assert (study.extend.learning_rate, study.extend.warmup, study.extend.batch_size) == (2e-5, 20, 32)
    assert study.extend.b2 == 0.999
    rows = {p.name: p.value for p in parameters(study)}
    assert (rows["alpha of NTK-32K"], rows["alpha of NTK-64K"]) == ("29", "57")


@pytest.mark.parametrize("cfg", [LLAMA2_7B, SMOLLM2, dataclasses.replace(TINY, trained_len=256)])
@pytest.mark.parametrize("times", [1.5, 2, 4, 16])
def test_laws_of_what_is_derived(cfg, times):
    """Every arm is possible, has the goal's tokens, and frozen maps stay within trained positions at every test."""
    study = derived_config(cfg, int(times * cfg.trained_len), 200 * times * cfg.trained_len, 16)
    tokens = study.extend.steps * study.extend.batch_size * study.extended
    assert abs(tokens / (200 * study.extended) - 1) < 0.02
    assert max(study.lengths) == 2 * study.extended
    assert all(type(n) is int for n in study.lengths)
    window, group = study.settings["self_extend"]["window"], study.settings["self_extend"]["group"]
    assert (2 * study.extended - 1) // group + window - window // group < cfg.trained_len
    arms = [method_arm(study, name) for name in study.methods] + variant_arms(study)
    for arm in arms:
        arm.method.attention(cfg, study.extended)
        assert set(arm.tests) == set(study.tests)
    control = next(arm for arm in arms if arm.name == "control")
    own = control.recipe.steps * control.recipe.batch_size * control.length
    assert abs(own / tokens - 1) <= 0.5 / control.recipe.batch_size + 1e-9  # whole rows
    assert [arm.on.name for arm in arms if arm.on] == ["control"] * len(derived.ON_CONTROL)


def test_the_rate_meets_both_models():
    assert derived.learning_rate(6.74e9) == 2e-5
    assert derived.learning_rate(1.345e8) == 2e-4
    assert derived.learning_rate(1e6) == 1e-3


def test_a_budget_or_a_length_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="--extended=8192 must be above the 8192 tokens"):
        derived_config(SMOLLM2, 8192, 13e6, 16)
    with pytest.raises(ValueError, match="--tokens=1000 must be at least one row"):
        derived_config(SMOLLM2, 32_768, 1000, 16)
    for bad in ({"tokens": math.nan}, {"hours": 0.0}, {"samples": 0}, {"extended": 0}):
        with pytest.raises(ValueError, match=f"--{next(iter(bad))}"):
            Goal(**bad)


def test_costs_are_those_of_the_pilot():
    """135 M parameters, 13 M tokens in rows of 32K: 83,000 tokens/s were measured on an H200, so 157 seconds."""
    study = derived_config(SMOLLM2, 32_768, 13e6, 16)
    costs = {c.arm: c for c in arm_costs(study, [method_arm(study, n) for n in ("base", "yarn")], H200)}
    assert costs["base"].training == 0
    assert 100 < costs["yarn"].training < 220


def test_memory_decides_what_is_computed_again():
    """The estimate of the step itself: all rows at once where they fit, else fewer, else a refusal."""
    study = derived_config(dataclasses.replace(TINY, trained_len=256), 1024, 4e5, 16)
    large, needed = step_memory.fitted(study, 2**40, "cpu")
    assert (large.remat, large.extend.micro_batch_size) == ("qkv", study.extend.batch_size)
    small, less = step_memory.fitted(study, int(needed / 0.85) - 1, "cpu")
    assert less < needed
    assert (small.remat, small.extend.micro_batch_size) != ("qkv", study.extend.batch_size)
    with pytest.raises(ValueError, match="a row of --extended=1024 tokens needs"):
        step_memory.fitted(study, 1000, "cpu")
    assert step_memory.fitted(study, None, "cpu")[0].extend.micro_batch_size == 1


def test_the_tests_batch_follows_the_memory():
    """A power of two whose KV cache takes a quarter of the memory, within limits; it changes no result."""
    study = derived_config(LLAMA2_7B, 32_768, 1e9, 16)  # 524,288 bytes a token in bfloat16
    study = dataclasses.replace(study, model=dataclasses.replace(study.model, dtype="bfloat16"))
    sizes = [step_memory.eval_batch_tokens(study, memory * 2**30) for memory in (1, 128, 200, 2**20)]
    assert sizes == [16_384, 65_536, 65_536, 262_144]


def test_ruler_s_tasks_and_questions_are_chosen():
    """Two of thirteen tasks cost less; the tests ask those alone."""
    chosen = Goal(32_768, ruler_tasks="vt,niah_single_2", ruler_samples=50).ruler(16)
    few, all_tasks = (derived_config(SMOLLM2, 32_768, 13e6, 16, ruler) for ruler in (chosen, None))
    assert few.tests["ruler"].test.names == ["vt", "niah_single_2"]
    assert (few.tests["ruler"].test.ruler_samples, all_tasks.tests["ruler"].test.ruler_samples) == (50, 16)
    base = method_arm(few, "base")
    assert arm_costs(few, [base], H200)[0].evaluation < arm_costs(all_tasks, [base], H200)[0].evaluation


def test_this_machine_is_measured():
    device = measure_devices(only_cpu=True)
    assert (device.platform, device.memory) == ("cpu", None)
    assert device.flops > 1e9


def test_a_base_that_was_extended_is_extended_further():
    """Llama 3.1 reads 131,072 tokens: PI by 2 halves the frequencies that it has, not those that it had."""
    cfg, base = from_all_it_reads(model_of(LLAMA_31), method_of(LLAMA_31), LLAMA_31)
    assert cfg.trained_len == 131_072
    own_R = method_of(LLAMA_31).rope(model_of(LLAMA_31), 4096, {}, None).inv_freq_R
    np.testing.assert_array_equal(base.rope(cfg, 4096, {}, None).inv_freq_R, own_R)
    pi = on_base(METHODS["pi"](2.0), base)
    np.testing.assert_allclose(pi.rope(cfg, 4096, {}, None).inv_freq_R, own_R / 2, rtol=1e-7)
    windowed = on_base(METHODS["self_extend"](1024, 8), base)
    np.testing.assert_array_equal(windowed.rope(cfg, 4096, {}, None).inv_freq_R, own_R)
    plain, method = from_all_it_reads(model_of(LLAMA), method_of(LLAMA), LLAMA)
    assert (plain.trained_len, method) == (4096, method_of(LLAMA))
    yarn = METHODS["yarn"](8.0)
    rope = on_base(yarn, base).rope(cfg, 4096, {}, None)
    wanted_R = yarn.rope(cfg, 4096, {}, None).inv_freq_R * own_R / inv_freq(cfg)
    np.testing.assert_allclose(rope.inv_freq_R, wanted_R, rtol=1e-6)
    assert jnp.all(jnp.isfinite(rope.inv_freq_R))


@pytest.mark.parametrize("config", [LLAMA, LLAMA_31])
def test_a_plan_needs_a_configuration_alone(tmp_path, capsys, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = [f"--base_dir={tmp_path}", "--extended=262144", "--arms=base,yarn,control", "--dry_run"]
    command.main(flags.FlagValues(), ["longjax-study", *arguments])
    said = capsys.readouterr().out
    assert "to 262,144 tokens" in said
    assert "3 arms, " in said
    assert "yarn     exact trained" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--extended=4096"], "--extended=4096 must be above the 4096 tokens of --base_dir"),
        (["--extended=32768", "--tokens=100"], "--tokens=100 must be at least one row"),
        (["--extended=32768", "--hours=0.001"], "--hours=0.001: with 4 questions a task it takes"),
        (["--extended=32768", "--preset=paper"], "drop --preset=paper"),
    ],
)
def test_a_plan_that_cannot_be_is_one_line(tmp_path, capsys, arguments, said):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(SystemExit) as error:
        command.main(flags.FlagValues(), ["longjax-study", f"--base_dir={tmp_path}", "--dry_run", *arguments])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def write_settings(folder, **settings):
    folder.mkdir(parents=True)
    content = {"seed": 0, "preset": {"remat": "qkv", "extended": 64}, "sha256": {"tokens": "a"}, "text_dir": "x"}
    (folder / "settings.json").write_text(json.dumps(content | settings))


class Folder:
    """The part of a workspace that merging needs."""

    def __init__(self, folder):
        self.folder = folder


def test_parts_of_a_study_are_merged(tmp_path):
    """Arms that are missing are copied, without checkpoints; what depends on the machine may differ, data may not."""
    write_settings(tmp_path / "ours")
    write_settings(tmp_path / "theirs", preset={"remat": "full", "extended": 64}, text_dir="y")
    arm = tmp_path / "theirs" / "methods" / "pi"
    for part in ("evals/ema", "checkpoints/3"):
        (arm / part).mkdir(parents=True)
        (arm / part / "file").write_text("x")
    (arm / "method.json").write_text("{}")
    merge.merge_runs(Folder(tmp_path / "ours"), [str(tmp_path / "theirs")])
    merged = tmp_path / "ours" / "methods" / "pi"
    assert (merged / "evals" / "ema" / "file").exists()
    assert not (merged / "checkpoints").exists()
    write_settings(tmp_path / "other", sha256={"tokens": "b"})
    with pytest.raises(ValueError, match=r"settings.json is of another study \(sha256 differ\)"):
        merge.merge_runs(Folder(tmp_path / "ours"), [str(tmp_path / "other")])
    with pytest.raises(ValueError, match=r"is no study: it has no settings\.json"):
        merge.merge_runs(Folder(tmp_path / "ours"), [str(tmp_path / "nowhere")])
