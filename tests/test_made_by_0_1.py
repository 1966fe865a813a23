"""What longjax 0.1 wrote still opens and goes on: see tests/made_by_0_1."""

import dataclasses
import json
import pathlib
import re
import shutil
import tarfile

import numpy as np
import pytest
from absl import flags as absl_flags

from longjax import made_by_0_1, report
from longjax.attention.blockwise import Blockwise
from longjax.cli import evaluate as evaluation
from longjax.cli import train
from longjax.config import ModelConfig
from longjax.evals.perplexity import PerplexityTest
from longjax.evals.perplexity.protocols import (
    EvenlySpaced,
    Nested,
    Sliding,
    Strided,
    WithoutMemory,
    protocol_settings,
)
from longjax.methods import METHODS, Method, compose, ds_bf16, method_identity, with_lora
from longjax.report.single_run.page import settings_of
from longjax.report.study import page as study_page
from longjax.study.config import AtLengths, DataStage, StudyConfig, Variant
from longjax.study.presets import PRESETS
from longjax.training.checkpoint import TrainCheckpointer
from longjax.training.recipe import Recipe
from made_by_0_1.make import add_tokenizer, write_text

HERE = pathlib.Path(__file__).parent / "made_by_0_1"
NAMES = json.loads((HERE / "methods.json").read_text())
LOSSES = json.loads((HERE / "losses.json").read_text())
TEST = PerplexityTest("nested", ppl_data="held_out", num_windows=1)
PRESET = StudyConfig(
    model=ModelConfig(dtype="float32"), extended=64, base=None,
    extend=Recipe(steps=4, batch_size=2, micro_batch_size=1, learning_rate=1e-2, warmup=1, schedule="cosine",
                  min_lr_ratio=0.2, max_grad_norm=0.5, ema_decay=0.5),
    base_stages=(), extend_stages=(DataStage(0.5, long=0.0), DataStage()), lengths=(64,),
    methods=("yarn", "longlora", "clex", "self_extend"),
    settings={"clex": {"max_factor": 4, "ode_steps": 8}, "self_extend": {"window": 16, "group": 4}},
    tests={"perplexity": TEST, "perplexity_32": AtLengths(TEST, (32,))}, raw_weight_tests=("perplexity",),
    method_tests={"longlora": ("perplexity_32",)}, variants={"pi_ds_bf16": Variant("pi", tables="ds_bf16")},
    task_example_tasks=("needle",), batch_tokens=1024, attention=Blockwise(32, 32), remat="none", base_dir="base",
)  # fmt: skip
yarn, clex, longlora = METHODS["yarn"], METHODS["clex"], METHODS["longlora"]
COMPOSED = {
    "untouched": Method(), "compose": compose(yarn(4.0), METHODS["self_extend"](512, 16)),
    "compose_clex": compose(clex(), longlora()), "with_lora": with_lora(yarn(4.0), 4),
    "with_lora_clex": with_lora(clex(), 4, names=("q", "v")), "ds_bf16_pi": ds_bf16(METHODS["pi"](4.0)),
    "ds_bf16_yarn": ds_bf16(yarn(), 4096, 16), "ds_bf16_ntk": ds_bf16(METHODS["ntk_32k"]()),
    "ds_bf16_longlora": ds_bf16(longlora()),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """-> a folder with all that 0.1 made, its text and its tokenizers."""
    folder = tmp_path_factory.mktemp("made_by_0_1")
    with tarfile.open(HERE / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    write_text(folder / "text")
    for name in ("base", "export"):
        add_tokenizer(folder / name)
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """-> a copy of it; names of files are relative to it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "made_by_0_1", PRESET)
    return tmp_path


def experiment(name, *flags):
    given = ["--preset=made_by_0_1", "--run_dir=run", "--text_dir=text", "--save_every=2", *flags]
    train.experiment(METHODS[name], absl_flags.FlagValues(), ["program", *given])


def evaluate(*flags):
    given = ["--checkpoint=export", "--method=self_extend", "--tasks=perplexity", "--lengths=64", "--num_windows=2",
             "--ppl_data=held_out", "--data_dir=run/eval", "--out_dir=evaluations", *flags]  # fmt: skip
    evaluation.main(absl_flags.FlagValues(), ["program", *given])


def times(folder):
    """-> when each file of records or of numbers of steps was written."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.jsonl"))}


@pytest.mark.parametrize("name", NAMES["methods"])
def test_methods(name):
    for settings, said in NAMES["methods"][name]:
        method = METHODS[name](**made_by_0_1.rename_fields(settings, name))
        identity = method_identity(method)
        assert made_by_0_1.method_repr(method) == said
        assert made_by_0_1.method_file({"method": said}, method, identity) == {"method": identity}
        assert made_by_0_1.method_file({"described": said}, method, identity) == {"identity": identity}
        other = dataclasses.replace(method, trainable=str.isupper)
        assert made_by_0_1.method_file({"method": said}, other, None) == {"method": said}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_methods(name):
    assert made_by_0_1.method_repr(COMPOSED[name]) == NAMES["composed"][name]


def test_no_name_is_old_and_new():
    """So that what is translated already may be translated again."""
    for table in (made_by_0_1.NAMES, *made_by_0_1.FIELDS.values()):
        assert not table.keys() & {*table.values()}
        assert len({*table.values()}) == len(table)


def test_settings_get_todays_names(made):
    """Every class whose fields are kept has just these fields."""
    preset = settings_of(made / "run")["preset"]

    def fields(cls):
        return {field.name for field in dataclasses.fields(cls)}

    assert preset.keys() == fields(StudyConfig) - {"attention"}
    known = json.loads(json.dumps(dataclasses.asdict(PRESET)))
    assert preset["extend"] == known["extend"]
    for name in ("extend_stages", "tests", "variants", "settings"):
        assert json.dumps(preset[name], sort_keys=True) == json.dumps(known[name], sort_keys=True)
    assert preset["model"].keys() == fields(ModelConfig)


def test_tables_are_applied_at_their_place(monkeypatch):
    monkeypatch.setitem(made_by_0_1.FIELDS, "Recipe", {"rows": "batch"})
    monkeypatch.setitem(made_by_0_1.FIELDS, "Preset", {"drills": "examples", "base_stages": "stages"})
    monkeypatch.setitem(made_by_0_1.FIELDS, "Stage", {"until": "end"})
    monkeypatch.setitem(made_by_0_1.FIELDS, "Test", {"most": "limit"})
    old = {
        "extend": {"rows": 2}, "base_stages": [{"until": 1.0}], "drills": [0, 1], "tests": {"most": {"most": 3}},
        "variants": {"rows": {"recipe": {"rows": 3}}}, "softmax": "Dense()", "base": None,
    }  # fmt: skip
    new = {
        "extend": {"batch": 2}, "stages": [{"end": 1.0}], "examples": [0, 1], "tests": {"most": {"limit": 3}},
        "variants": {"rows": {"recipe": {"batch": 3}, **made_by_0_1.NEW_OF_VARIANTS}}, "base": None,
        **made_by_0_1.NEW_OF_PRESETS,
    }  # fmt: skip
    assert made_by_0_1.study_settings({"preset": old, "seed": 0}) == {"preset": new, "seed": 0}
    assert made_by_0_1.study_settings({"preset": new, "seed": 0}) == {"preset": new, "seed": 0}


def test_the_base_that_ships_is_in_the_package_now(tmp_path):
    def settings(folder):
        return {"base_dir": str(folder), "preset": {"base_dir": str(folder), **made_by_0_1.NEW_OF_PRESETS}}

    new = settings(tmp_path / "longjax/bases/mini")
    assert made_by_0_1.study_settings(settings(tmp_path / "bases/mini")) == new
    (tmp_path / "longjax/bases/mini").mkdir(parents=True)
    assert made_by_0_1.study_settings(new) == new
    assert made_by_0_1.study_settings(settings("/models/other")) == settings("/models/other")
    assert made_by_0_1.study_settings({"base_dir": None}) == {"base_dir": None}


def test_names_of_classes_and_their_fields(monkeypatch):
    monkeypatch.setitem(made_by_0_1.NAMES, "Turning", "YarnRope")
    monkeypatch.setitem(made_by_0_1.NAMES, "all_of_it", "all_trainable")
    monkeypatch.setitem(made_by_0_1.FIELDS, "Turning", {"by": "factor"})
    monkeypatch.setitem(made_by_0_1.FIELDS, "Method", {"mine": "init_params", "insert": "insert_tokens"})
    said = NAMES["methods"]["yarn"][0][1]
    said = said.replace("YarnRope(factor", "Turning(by").replace("function everything", "function all_of_it")
    assert made_by_0_1.method_repr(yarn()) == said.replace("own=", "mine=").replace("piece=", "row_length=")


PROTOCOLS = {  # of perplexity
    "Sliding(stride=256, documents=10)": Sliding(256, 10),
    "Strided(stride=63, begin=1, documents=None, truncate=False, least=7, equal=True)":
        Strided(63, 1, None, False, 7, True),
    "Nested(longest=64, most=1)": Nested(64, 1),
    "Spread(of=Sliding(stride=9, documents=None), most=2)": EvenlySpaced(Sliding(9), 2),
    "Forgetful(of=Spread(of=Sliding(stride=256, documents=10), most=8), size=512)":
        WithoutMemory(EvenlySpaced(Sliding(256, 10), 8), 512),
}  # fmt: skip


@pytest.mark.parametrize("old", PROTOCOLS)
def test_protocols_of_perplexity(old):
    manifest = {"plan": "old", "n": 1, "settings": {"seed": 0, "windows": old}}
    new = {"n": 1, "settings": {"seed": 0, "windows": protocol_settings(PROTOCOLS[old])}}
    assert made_by_0_1.task_manifest(manifest) == new
    assert made_by_0_1.task_manifest(new) == new


@pytest.fixture
def restored(monkeypatch):
    """-> the steps of the checkpoints that are read."""
    steps, read = [], TrainCheckpointer.read
    monkeypatch.setattr(TrainCheckpointer, "read", lambda *given: steps.append(given[2]) or read(*given))
    return steps


def test_a_training_goes_on(place, restored):
    experiment("yarn")
    assert restored == [2]
    steps = [json.loads(line) for line in (place / "run/methods/yarn/metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([m["loss"] for m in steps], LOSSES["yarn"], rtol=2e-5)


@pytest.mark.parametrize("name", ["longlora", "clex", "self_extend"])
def test_a_finished_run_opens(place, restored, name):
    """Its own parameters and adapters too: nothing is trained or asked again."""
    before = times(place / "run" / "methods")
    experiment(name, *["--lora_rank=2"] * (name == "clex"))
    assert restored == [4] * (name != "self_extend")
    assert times(place / "run" / "methods") == before


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [("yarn", ["--factor=4"], "method.json was written with other settings"),
     ("yarn", ["--learning_rate=0.5"], "settings.json was written with other settings"),
     ("clex", ["--lora_rank=2", "--lora_alpha=8"], "method.json was written with other settings")],
)  # fmt: skip
def test_another_method_is_still_another(place, capsys, name, flags, said):
    with pytest.raises(SystemExit):
        experiment(name, *flags)
    assert said in capsys.readouterr().err


def test_a_checkpoint_of_another_method_is_refused(place, capsys):
    (place / "run/methods/yarn/method.json").unlink()
    with pytest.raises(SystemExit):
        experiment("yarn", "--factor=4")
    assert "was trained with another method" in capsys.readouterr().err


def test_an_export_opens_and_its_evaluation_is_not_mixed_with_ours(place, capsys):
    experiment("self_extend")  # text to tokens, from which the examination is made
    before = times(place / "evaluations")
    with pytest.raises(SystemExit):
        evaluate("--method_config=window=16 group=4")
    assert "made by longjax 0.1, whose checkpoint_sha256 saw samples" in capsys.readouterr().err
    assert times(place / "evaluations") == before
    evaluate("--method_config=window=16 group=4", "--out_dir=again")
    report.write_report(place / "again")
    assert "self_extend(group=4, log_base=0.0, shift=floor, window=16)" in (place / "again/report.md").read_text()
    with pytest.raises(SystemExit):
        evaluate("--method_config=window=16 group=8")
    assert "is for another method" in capsys.readouterr().err


def test_reports(place):
    assert "self_extend" in report.write_report(place / "run")
    report.write_report(place / "evaluations")
    assert "SelfExtend(window=16" in (place / "evaluations" / "report.md").read_text()


def test_the_study_that_is_kept_makes_its_page(tmp_path):
    """Of results/study/records.tar.xz, three methods."""
    methods = re.compile("seed_./(settings.json|methods/(base|pi|yarn)/)")
    with tarfile.open(HERE.parent.parent / "results" / "study" / "records.tar.xz") as packed:
        packed.extractall(tmp_path, [m for m in packed if methods.search(m.name)], filter="data")
    study_page.write_study_page(tmp_path / "h200_100m", tmp_path / "page")
    text = (tmp_path / "page" / study_page.PAGE).read_text()
    assert "examples of the tests' tasks (35 %)" in text
    assert "200 updates of 4 rows" in text
