"""A user's mistake is one line that names the flag, with exit code 2 and no traceback."""

import functools

import pytest
from absl import flags as absl_flags

from longjax import sharding
from longjax.cli import names, train
from longjax.cli.study import StudyOptions
from longjax.config import TINY
from longjax.methods import METHODS
from longjax.study.controlled_presets import MINI


def fails(capsys, main, *arguments):
    """-> the one line that the command prints."""
    with pytest.raises(SystemExit) as stop:
        main(*arguments)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 1
    return lines[0]


def run(make, *arguments):
    """`python -m experiments.<make>` with these arguments, in this process."""
    train.experiment(make, absl_flags.FlagValues(), ["program", *arguments])


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("pi", ["--factr=4"], "Did you mean: factor"),
        ("pi", ["--factor=abc"], "factor"),
        ("pi", ["--preset=minii"], "--preset=minii is unknown: did you mean mini?"),
        ("pi", ["stray"], "unknown argument stray"),
        ("pi", ["--text_dir=/nowhere"], "--text_dir=/nowhere is not a folder"),
        ("pi", ["--base_dir=/nowhere"], "/nowhere/config.json is missing or damaged: name a folder"),
        ("pi", ["--mesh_data=3"], "--mesh_data=3 x --mesh_fsdp=1 x --mesh_seq=1 x --mesh_model=1 is 3 devices"),
        ("self_extend", ["--window=18", "--group=4"], "--window=18 must be a multiple of --group=4"),
        ("landmark", ["--top_k=0"], "--top_k=0 must be at least 1"),
        ("longrope", [], "--short_factor"),
    ],
)
def test_mistakes(capsys, tmp_path, method, arguments, said):
    assert said in fails(capsys, run, METHODS[method], f"--run_dir={tmp_path}", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the first argument is a method"),
        (["--factor=8", "yarn"], "the first argument is a method"),
        (["yran"], "yran is not a method: did you mean yarn?"),
        (["yarn", "--factr=8"], "Did you mean: factor"),
    ],
)
def test_mistakes_of_longjax_train(capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(train, "experiment", functools.partial(train.experiment, values=absl_flags.FlagValues()))
    assert said in fails(capsys, train.main, ["longjax-train", *arguments])


def test_help_of_longjax_train(capsys, monkeypatch):
    """Of the command all methods, of a method its flags."""
    monkeypatch.setattr(train, "experiment", functools.partial(train.experiment, values=absl_flags.FlagValues()))
    train.main(["longjax-train", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in METHODS)
    train.main(["longjax-train", "yarn", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("YaRN")
    assert "--beta_fast: " in said
    assert "--batch_size: " in said


def test_an_empty_or_tiny_text_folder(capsys, tmp_path):
    (tmp_path / "text").mkdir()
    where = [f"--run_dir={tmp_path / 'run'}", f"--text_dir={tmp_path / 'text'}"]
    assert "holds no readable text" in fails(capsys, run, METHODS["pi"], *where)
    (tmp_path / "text" / "a.txt").write_text("too little")
    assert "holds 10 characters of text" in fails(capsys, run, METHODS["pi"], *where)


def test_a_sequence_longer_than_the_method_allows():
    method = METHODS["clex"](max_factor=4)
    own = method.init_params(__import__("jax").random.key(0), TINY)
    with pytest.raises(ValueError, match="--max_factor=4 ends at 128 tokens: a sequence of 200 needs 7"):
        method.rope(TINY, 200, own, None)


def test_a_group_that_does_not_divide_the_row():
    with pytest.raises(ValueError, match="--groups=4 must divide the sequence length 66"):
        METHODS["longlora"]().attention_train(TINY, 66)


def test_what_cannot_be_split_over_the_mesh():
    mesh = sharding.make_mesh(fsdp=2, seq=2, model=2)
    with pytest.raises(ValueError, match="--micro_batch_size=3 cannot be split over --mesh_data=1 x --mesh_fsdp=2"):
        sharding.check_divisible(TINY, 3, 64, mesh)


def test_the_study_knows_its_methods():
    with pytest.raises(ValueError, match=r"--arms=yarnn: yarnn is unknown: did you mean yarn\?"):
        StudyOptions("yarnn").arms_of(MINI)
    assert [arm.name for arm in StudyOptions("yarn,base").arms_of(MINI)] == ["yarn", "base"]


def test_suggestions_or_the_whole_list():
    assert names.did_you_mean("yran", ["yarn", "pi"]) == ": did you mean yarn?"
    assert names.did_you_mean("zzz", ["yarn", "pi"]) == ": choose one of yarn, pi"
