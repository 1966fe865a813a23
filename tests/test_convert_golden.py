"""Checkpoints of every family and format give the logits that transformers and PEFT gave."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from longjax.checkpoints import safetensors
from peers import peer
from tools import check_golden

HERE = Path(__file__).parent / "golden" / "convert"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "convert"
SETS = [HERE, SHARED] if os.environ.get("LONGJAX_FULL_GOLDEN") == "1" else [HERE]
CASES = [case for folder in SETS if folder.exists() for case in sorted(folder.iterdir()) if case.is_dir()]


def faults(case):
    return [result for result in check_golden.check(case) if not check_golden.passed(result)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.parts[-3]}-{case.name}")
def test_same_logits_and_tensors(case):
    if any(path.suffix in (".bin", ".pth") for path in case.rglob("*")):
        peer("torch")
    assert faults(case) == []


def test_there_is_a_case_of_everything():
    configs = [json.loads(path.read_text()) for path in HERE.glob("*/hf/config.json")]
    ropes = [config.get("rope_parameters") or config.get("rope_scaling") or {} for config in configs]
    kinds = {rope.get("rope_type", rope.get("type")) for rope in ropes}
    assert {config["model_type"] for config in configs} == {"llama", "mistral", "qwen2", "phi", "mpt"}
    assert kinds >= {"default", "linear", "dynamic", "yarn", "longrope", "llama3"}
    files = {path.name for path in HERE.rglob("*")}
    assert files >= {
        "model.safetensors.index.json", "pytorch_model.bin.index.json", "consolidated.01.pth", "trainable_params.bin",
        "adapter_model.safetensors", "adapter_model.bin",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) < 1.5e6


@pytest.fixture
def copied(tmp_path):
    def copy(name):
        return Path(shutil.copytree(HERE / name, tmp_path / name))

    return copy


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("llama", {"rms_norm_eps": 1e-3}),
        ("mistral_window", {"sliding_window": 9}),
        ("mpt", {"attn_config": {"clip_qkv": None}}),
        ("mpt_scale", {"attn_config": {"softmax_scale": 0.7, "alibi_bias_max": 16}}),
        ("phi", {"hidden_act": "gelu"}),
        ("llama_yarn", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    ],
)
def test_another_configuration_is_noticed(copied, name, change):
    case = copied(name)
    path = case / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert any(result.note.startswith("logits") for result in faults(case))


def test_swapped_projections_are_noticed(copied):
    path = copied("llama_yarn") / "hf" / "model.safetensors"
    held, (k, v) = safetensors.read_safetensors(path), (f"model.layers.1.self_attn.{name}_proj.weight" for name in "kv")
    safetensors.write_safetensors(path, held | {k: held[v], v: held[k]})
    assert any(result.note.startswith("logits") for result in faults(path.parents[1]))


def test_a_tensor_of_another_type_and_a_lost_one_are_noticed(copied):
    case = copied("llama")
    said = json.loads((case / "tensors.json").read_text())
    said["model.norm.weight"]["dtype"] = "F16"
    (case / "tensors.json").write_text(json.dumps(said | {"model.extra": {"dtype": "F32", "shape": [1]}}))
    notes = {result.note for result in faults(case)}
    assert notes == {"model.norm.weight is ['F32', [16]], not ['F16', [16]]", "model.extra was not read"}


def test_broken_cases_fail_and_do_not_stop_the_others(copied):
    lost, whole = copied("llama"), copied("qwen2")
    (lost / "hf" / "model.safetensors").unlink()
    with np.load(whole / "logits.npz") as file:
        arrays = dict(file)
    np.savez(whole / "logits.npz", **arrays | {"logits_99": arrays["logits_40"]})
    (copied("mpt") / "logits.npz").unlink()
    results = faults(lost.parent)
    assert {result.case for result in results} == {"llama", "mpt", "qwen2"}


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "phi", "mpt"])
def test_live_parity_of_random_models(family, tmp_path):
    peer("torch")
    peer("transformers")
    from golden_checks.convert_cases import random_case, write

    assert faults(write(random_case(family, 1), tmp_path)) == []
