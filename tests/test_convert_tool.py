"""longjax-convert, as it would be typed."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags

from longjax.checkpoints import pretrained, safetensors
from longjax.cli import convert as command
from longjax.cli import stock_logits
from longjax.methods import METHODS

CASES = pathlib.Path(__file__).parent / "golden" / "convert"
LLAMA = CASES / "llama_bf16_sharded" / "hf"


def convert(*arguments):
    command.main(flags.FlagValues(), ["longjax-convert", *arguments])


def refused(capsys, *arguments):
    """-> the one line that is said."""
    with pytest.raises(SystemExit) as error:
        convert(*arguments)
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_there_and_back_by_orbax(tmp_path, capsys):
    convert(f"--from={LLAMA}", "--to=orbax", f"--out={tmp_path / 'orbax'}", "--verify")
    convert(f"--from={tmp_path / 'orbax'}", f"--out={tmp_path / 'hf'}", "--dtype=source", "--file_bytes=4000")
    said = capsys.readouterr().out
    assert "bit-identical" in said
    assert "MB/s" in said
    assert len(list((tmp_path / "hf").glob("model-*.safetensors"))) > 1
    want, got = (safetensors.SafetensorsFolder(folder) for folder in (LLAMA, tmp_path / "hf"))
    assert want.shapes() == got.shapes()
    for name in want.shapes():
        assert want.read(name).tobytes() == got.read(name).tobytes()


def test_a_method_with_its_parameters(tmp_path, capsys, monkeypatch):
    """--verify compares logits, here with those that transformers would compute if it were we."""
    monkeypatch.setattr(
        stock_logits,
        "transformers_logits",
        lambda folder, tokens: stock_logits.longjax_logits(pretrained.open_checkpoint(folder, dtype="float32"), tokens),
    )
    convert(
        f"--from={LLAMA}", f"--out={tmp_path}", "--method=yarn", "--method_config=factor=4 beta_fast=16",
        "--dtype=float32", "--verify",
    )  # fmt: skip
    said = capsys.readouterr().out
    for flag in ("from", "out"):
        assert f"logits of --{flag}: those of 2 x 64 tokens differ from transformers' by 0.0e+00" in said
    assert pretrained.open_checkpoint(tmp_path).method.rope == METHODS["yarn"](4.0, 16.0).rope


def test_other_logits_are_noticed(tmp_path, capsys, monkeypatch):
    zeros = lambda folder, tokens_BT: np.zeros((*tokens_BT.shape, 1), np.float32)  # noqa: E731
    monkeypatch.setattr(stock_logits, "transformers_logits", zeros)
    said = refused(capsys, f"--from={LLAMA}", f"--out={tmp_path}", "--verify")
    assert f"--from={LLAMA}: transformers computes other logits" in said


def test_a_source_that_transformers_cannot_load_is_told(tmp_path, capsys, monkeypatch):
    def load(folder, tokens_BT):
        raise KeyError("llama-of-tomorrow")

    monkeypatch.setattr(stock_logits, "transformers_logits", load)
    convert(f"--from={LLAMA}", f"--out={tmp_path}", "--verify")
    assert "transformers cannot load it ('llama-of-tomorrow')" in capsys.readouterr().out


def test_other_bits_are_noticed(tmp_path, capsys):
    """A bit that turns between writing and reading."""
    source = pretrained.open_checkpoint(LLAMA)
    pretrained.write_checkpoint(
        tmp_path, pretrained.ModelTensors(source.tensors, source.cfg), source.cfg, source.method, source, {}
    )
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    want, got = source.tensors, pretrained.open_checkpoint(tmp_path).tensors
    with pytest.raises(ValueError, match="is not what was written"):
        command.compare_tensors(want, got, "out", lambda fraction, doing: None)


def test_adapters_are_merged(tmp_path):
    case = CASES / "lora_rs_patterns"
    convert(f"--from={case / 'hf'}", f"--adapter={case / 'adapter'}", f"--out={tmp_path}", "--dtype=float32")
    want = pretrained.open_checkpoint(case / "hf", str(case / "adapter")).tensors
    got, base = pretrained.open_checkpoint(tmp_path).tensors, pretrained.open_checkpoint(case / "hf").tensors
    changed = 0
    for name in got.shapes():
        np.testing.assert_array_equal(got.read(name), want.read(name))
        changed += not np.array_equal(got.read(name), base.read(name))
    assert changed


def test_what_transformers_cannot_run_is_told(tmp_path, caplog):
    convert(f"--from={LLAMA}", f"--out={tmp_path}", "--method=self_extend", "--method_config=window=16 group=4")
    assert "stock transformers lacks the attention of SelfExtend" in caplog.text
    told = json.loads((tmp_path / "longjax.json").read_text())
    settings = {"window": 16, "group": 4, "log_base": 0.0, "shift": "floor"}
    assert told["method"] == {"name": "self_extend", "settings": settings}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out=x"], "--from is needed"),
        ([f"--from={LLAMA}"], "--out is needed"),
        (["--from=/nowhere", "--out=x"], "--from=/nowhere is not a directory"),
        ([f"--from={CASES}", "--out=x"], "config.json is missing or damaged"),
        ([f"--from={LLAMA}", f"--out={LLAMA}"], "is --from itself"),
        ([f"--from={LLAMA}", "--out=x", "--method=yarm"], "--method=yarm is unknown: did you mean yarn?"),
        (
            [f"--from={LLAMA}", "--out=x", "--method=yarn", "--method_config=fctor=4"],
            "Unknown command line flag 'fctor'",
        ),
        ([f"--from={LLAMA}", "--out=x", "--method=yarn", "--method_config=4"], "--method_config=4"),
        ([f"--from={LLAMA}", "--out=x", "--method=clex"], "has trained parameters"),
        ([f"--from={LLAMA}", "--out=x", "--to=orbax", "--method=pi"], "--method=pi is for --to=hf"),
        (
            [f"--from={LLAMA}", "--out=x", "--method=yarn", "--hf_config_style=4.36"],
            "--hf_config_style=4.36 has no rope type",
        ),
        ([f"--from={LLAMA}", "--out=x", "--adapter=y", "--nomerge_lora"], "--nomerge_lora"),
        ([f"--from={LLAMA}", "--out=x", "--adapter=/nowhere"], "/nowhere"),
        ([f"--from={LLAMA}", "--out=/dev/null/x"], "cannot be written: Not a directory"),
    ],
)
def test_mistakes_are_one_line(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_torn_checkpoint_is_named(tmp_path, capsys):
    shutil.copytree(LLAMA, tmp_path / "torn")
    path = sorted((tmp_path / "torn").glob("*.safetensors"))[-1]
    path.write_bytes(path.read_bytes()[:-7])
    assert f"{path} is damaged" in refused(capsys, f"--from={tmp_path / 'torn'}", f"--out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()
