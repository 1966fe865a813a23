"""Every experiment from a converted checkpoint to its records, on eight devices, told to end on the way."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags as absl_flags

import tiny_preset
from longjax.checkpoints import hf_writer, orbax_params, pretrained
from longjax.cli import main, train
from longjax.evals.results import read_rows
from longjax.methods import METHODS
from longjax.progress import no_progress
from longjax.study.workspace import open_workspace
from longjax.training.checkpoint import TrainCheckpointer

MINI = pathlib.Path(__file__).parent / "base"
MESH = ["--mesh_fsdp=2", "--mesh_seq=2", "--mesh_model=2"]


def experiment(name, *arguments):
    """-> the exit code of python -m experiments.<name> in this process."""
    try:
        train.experiment(METHODS[name], absl_flags.FlagValues(), ["program", "--preset=tiny", *arguments])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """-> a checkpoint in our own layout, converted from Hugging Face's, and a workspace with tokens."""
    folder = tmp_path_factory.mktemp("given")
    source = pretrained.open_checkpoint(MINI)
    tensors = pretrained.ModelTensors(source.tensors, source.cfg)
    orbax_params.write_orbax(
        folder / "base", tensors, source.cfg, source.config, hf_writer.text_files(MINI), no_progress
    )
    space = open_workspace(str(folder / "run"), tiny_preset.PRESETS["tiny"], base_dir=str(folder / "base"))
    space.prepare()
    space.tasks([], (256,))  # writes what evaluators ask of, once for all experiments
    return folder


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize("name", METHODS)
def test_an_experiment_trains_and_goes_on(given, tmp_path, monkeypatch, name):
    run = tmp_path / "run"
    shutil.copytree(given / "run", run)
    flags = [f"--run_dir={run}", f"--base_dir={given / 'base'}", "--save_every=1", *MESH]
    folder = run / "methods" / name
    method = METHODS[name](**tiny_preset.SETTINGS.get(name, {}))
    if method.trained:
        with monkeypatch.context() as patch:
            patch.setattr(TrainCheckpointer, "preempted", lambda self, step: step == 1)
            assert experiment(name, *flags) == main.REQUEUE
        assert [m["step"] for m in lines(folder, "metrics.jsonl")] == [0, 1]
    assert experiment(name, *flags) == 0
    if method.trained:
        steps = lines(folder, "metrics.jsonl")
        assert [m["step"] for m in steps] == [0, 1, 2]
        assert all(np.isfinite(m["loss"]) and m["loss"] < np.log(512) + 1 for m in steps)
    assert {row["task"] for row in read_rows(folder)} == {"perplexity", "position_nll", "passkey"}


def test_the_last_weights_and_their_average_are_evaluated_and_exported(given, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(given / "run", run)
    flags = [f"--run_dir={run}", f"--base_dir={given / 'base'}"]
    values = {}
    for weights in ("raw", "ema"):
        assert experiment("pi", *flags, f"--weights={weights}", f"--export_dir={tmp_path / weights}") == 0
        rows = read_rows(run / "methods" / "pi")
        values[weights] = [row["value"] for row in rows if row["weights"] == weights and row["task"] == "perplexity"]
    assert len(values["raw"]) == len(values["ema"]) == 1
    assert values["raw"] != values["ema"]
    name = "model.layers.0.self_attn.q_proj.weight"  # small numbers: bfloat16 tells three steps apart
    raw, ema = (pretrained.open_checkpoint(tmp_path / w).tensors.read(name) for w in ("raw", "ema"))
    assert (raw != ema).any()
