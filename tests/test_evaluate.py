"""The command longjax-evaluate: every benchmark for three methods from a converted checkpoint to the report."""

import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags as absl_flags

from longjax import report
from longjax.checkpoints import hf_writer, orbax_params, pretrained
from longjax.cli import evaluate, main
from longjax.cli.eval_options import EvalOptions
from longjax.data.tokenizer import Tokenizer
from longjax.evals.records import RECORDS, SCORE, read_records
from longjax.evals.requests import LoglikelihoodRequest
from longjax.evals.results import read_rows
from longjax.evals.synthetic import writer
from longjax.methods import METHODS
from longjax.progress import no_progress
from tools import export_answers

MINI = pathlib.Path(__file__).parent / "base"
EXPORT = export_answers.VALUES
TASKS = "perplexity,needle,passkey,ruler,longbench,manyshot"
SMALL = [
    "--lengths=480", "--num_samples=2", "--batch_tokens=1", "--dtype=float32", "--ppl_data=prose",
    "--longbench_tasks=qasper,trec,passage_retrieval_en,lcc,samsum_e,dureader", "--manyshot_shots=1,5",
    "--longbench_max_length=340",
    "--ppl_protocol=lceg", "--ppl_stride=64",
]  # fmt: skip
METHODS_TRIED = {"ntk_frozen": "", "self_extend": "window=32 group=16", "landmark": "block=16 top_k=4"}
OF_RULER = "--ruler_tasks=niah_single_1,niah_multikey_2,niah_multivalue,vt,qa_2"  # one of a kind; ntk_frozen has all


def ask(*arguments):
    """-> the exit code of the command in this process."""
    try:
        evaluate.main(absl_flags.FlagValues(), ["longjax-evaluate", *arguments])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval") / "data"
    writer.write_folder(folder, writer.synthetic_config("tiny", words=120, tokenizer=Tokenizer(MINI)))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """-> the small base in our own layout."""
    folder, source = tmp_path_factory.mktemp("base") / "converted", pretrained.open_checkpoint(MINI)
    tensors = pretrained.ModelTensors(source.tensors, source.cfg)
    orbax_params.write_orbax(folder, tensors, source.cfg, source.config, hf_writer.text_files(MINI), no_progress)
    return folder


@pytest.mark.parametrize("name", METHODS_TRIED)
def test_every_benchmark_runs_offline_to_its_report(name, base, data, tmp_path, monkeypatch, capsys):
    def no_network(*_):
        raise AssertionError("somebody wants to talk to the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    out = tmp_path / "out"
    config = f"--method_config={METHODS_TRIED[name]}"
    flags = [f"--checkpoint={base}", f"--method={name}", config, f"--data_dir={data}", f"--out_dir={out}", *SMALL]
    flags += [] if name == "ntk_frozen" else [OF_RULER]
    assert ask(*flags, f"--tasks={TASKS}") == 0
    said = capsys.readouterr().out
    assert "requests" in said
    rows = read_rows(out / name)
    assert {row["benchmark"] for row in rows} == {*TASKS.split(","), "longbench_e"}
    assert {row["task"] for row in rows if row["benchmark"] == "ruler"} >= {
        "niah_single_1",
        "niah_multikey_2",
        "niah_multivalue",
        "qa_2",
    }
    for row in rows:
        if row["task"] != "position_nll":
            assert row["n"] > 0
            assert row["method"] == name
            assert (
                (1 if row["benchmark"] == "perplexity" else 0)
                <= row["value"]
                <= (1e3 if row["benchmark"] == "perplexity" else 1)
            )
    folders = [path.parent for path in (out / name).rglob(RECORDS)]
    assert all((folder / SCORE).exists() for folder in folders)
    assert all(
        r["prediction"] or r["finish_reason"] == "eos"
        for f in folders
        for r in read_records(f / RECORDS)[0]
        if "prediction" in r
    )
    assert ask(*flags, f"--tasks={TASKS}") == 0  # nothing is left to be done
    assert " of 2" not in capsys.readouterr().out
    assert name in report.write_report(str(out))
    page = (out / "report.md").read_text()
    pictures = {path.name for path in (out / "figures").glob("*.png")}
    assert len(pictures) >= 3
    assert all(picture in page for picture in pictures)
    assert len(list((out / "tables").glob("*.csv"))) >= 6
    main.start(export_answers.main, EXPORT, ["export_answers", f"--run={out / name}", f"--out={tmp_path / 'exported'}"])
    exported = {path.relative_to(tmp_path / "exported").parts[0] for path in (tmp_path / "exported").rglob("*.json*")}
    assert exported == {"ruler", "longbench", "longbench_e", "needle"}
    assert '"pred"' in (tmp_path / "exported" / "longbench" / "trec.jsonl").read_text().splitlines()[1]


def test_a_killed_evaluation_goes_on(base, data, tmp_path):
    """SIGKILL once the first answers are on disk; the other process leaves its own folder alone."""
    command = [
        sys.executable,
        "-m",
        "experiments.evaluate",
        f"--checkpoint={base}",
        "--method=ntk_frozen",
        "--tasks=passkey",
    ]
    command += [
        f"--data_dir={data}",
        "--lengths=128,256",
        "--num_samples=4",
        "--batch_tokens=128",
        "--dtype=float32",
    ]
    env = os.environ | {"PYTHONPATH": str(MINI.parent.parent), "JAX_PLATFORMS": "cpu"}

    def start(folder):
        return subprocess.Popen(
            [*command, f"--out_dir={folder}"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    killed = start(tmp_path / "killed")
    until = time.time() + 200
    while not any(path.stat().st_size for path in (tmp_path / "killed").rglob(RECORDS)):
        assert killed.poll() is None, killed.stderr.read().decode()[-2000:]
        assert time.time() < until
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for folder in ("killed", "straight"):
        again = start(tmp_path / folder)
        assert again.wait(300) == 0, again.stderr.read().decode()[-2000:]
    files = sorted(path.relative_to(tmp_path / "straight") for path in (tmp_path / "straight").rglob("*.json*"))
    assert len(files) >= 9
    for path in files:
        if path.name == RECORDS:
            one, two = (without_clock(read_records(tmp_path / folder / path)[0]) for folder in ("killed", "straight"))
            assert one == two
        elif path.name != "cost.jsonl":
            assert (tmp_path / "killed" / path).read_bytes() == (tmp_path / "straight" / path).read_bytes()


def without_clock(records):
    return [{key: x for key, x in r.items() if key != "wall_ms"} for r in records]


# Checkpoints


def test_what_was_exported_is_examined_as_it_was_trained(tmp_path, capsys):
    """CLEX has matrices of its own: written by an export, read back, asked for by name."""
    source = pretrained.open_checkpoint(MINI, dtype="float32")
    method = METHODS["clex"](max_factor=4, ode_steps=16)
    params = dict(pretrained.load(source.tensors, source.cfg))
    own = {name: x + 0.01 for name, x in method.init_params(__import__("jax").random.key(3), source.cfg).items()}
    pretrained.export(
        tmp_path / "hf", params | {"method": own}, source.cfg, method, source, pretrained.ExportOptions("float32")
    )
    chosen = EvalOptions(
        str(tmp_path / "hf"), method="clex", method_config="max_factor=4 ode_steps=16", dtype="float32"
    )
    given = chosen.open_checkpoint()
    unloaded = evaluate.engine_without_params(chosen, given, None)
    subject = evaluate.with_params(chosen, given, unloaded, no_progress)
    tokens_T = np.random.default_rng(0).integers(3, 500, 300).astype(np.int32)
    want = dataclasses.replace(subject, params=params | {"method": own})([LoglikelihoodRequest(tokens_T, {})])[0]
    got = subject([LoglikelihoodRequest(tokens_T, {})])[0]
    np.testing.assert_array_equal(got.nll_U, want.nll_U)
    other = dataclasses.replace(
        subject, params=params | {"method": method.init_params(__import__("jax").random.key(3), source.cfg)}
    )
    assert np.abs(other([LoglikelihoodRequest(tokens_T, {})])[0].nll_U - want.nll_U).max() > 1e-3
    assert ask(f"--checkpoint={tmp_path / 'hf'}", "--dry_run", "--tasks=passkey") == 2
    assert "is for another method: name it with --method" in capsys.readouterr().err


def test_another_checkpoint_is_refused(data, tmp_path, capsys):
    flags = [
        "--tasks=passkey",
        "--lengths=128",
        "--num_samples=1",
        f"--data_dir={data}",
        f"--out_dir={tmp_path}",
        "--name=x",
    ]
    assert ask(f"--checkpoint={MINI}", *flags) == 0
    other = tmp_path / "other"
    shutil.copytree(MINI, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[len(weights) // 2 : len(weights) // 2 + 100_000] = bytes(100_000)
    (other / "model.safetensors").write_bytes(bytes(weights))
    capsys.readouterr()
    assert ask(f"--checkpoint={other}", *flags) == 2
    said = capsys.readouterr().err
    assert "run.json differs in checkpoint, checkpoint_sha256 (fingerprints" in said
    assert ask(f"--checkpoint={MINI}", *flags, "--dtype=float32") == 2
    assert "differs in dtype" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--checkpoint is needed"),
        (["--checkpoint=nowhere"], "nowhere/config.json is missing or damaged: name a folder"),
        (["--tasks=rulr"], "--tasks=rulr: rulr is unknown: did you mean ruler?"),
        (["--method=yarm"], "--method=yarm is unknown: did you mean yarn?"),
        (["--method=yarn", "--method_config=factor=x"], "--method_config=factor=x: flag --factor=x"),
        (["--data_dir=nowhere"], "--data_dir=nowhere has no haystack"),
        (["--max_length=300", "--lengths=512", "--tasks=passkey"], "to be generated, over --max_length=300"),
        (["--max_compilations=1", "--lengths=128,512", "--tasks=passkey"], "over --max_compilations=1"),
    ],
)
def test_mistakes_end_with_one_line(flags, message, data, tmp_path, capsys):
    given = [] if not flags else [f"--checkpoint={MINI}"]
    assert ask(*given, "--tasks=needle", f"--data_dir={data}", f"--out_dir={tmp_path}", *flags) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert not list(tmp_path.rglob(RECORDS))
