"""The self-made data directory: the same bytes again, no harm to others' files, food for every benchmark."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

import fake_model
from longjax.data.tokenizer import Tokenizer
from longjax.evals.benchmarks import score
from longjax.evals.context import EvalContext
from longjax.evals.harness import catalog, offline
from longjax.evals.longbench import LongBench
from longjax.evals.longbench.table import TASKS
from longjax.evals.manyshot import NAMES, ManyShot
from longjax.evals.metrics.chinese import can_segment
from longjax.evals.needle import NeedleTest
from longjax.evals.passkey import PasskeyTest
from longjax.evals.perplexity import PerplexityTest
from longjax.evals.ruler.tasks import Ruler
from longjax.evals.synthetic import writer
from longjax.evals.synthetic.trec import KINDS

ROOT = pathlib.Path(__file__).parent.parent
BASE = ROOT / "longjax" / "bases" / "mini"
CHINESE = {"multifieldqa_zh", "dureader", "vcsum"}  # scored with jieba


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(BASE)


@pytest.fixture(scope="module")
def data(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("data") / "made"
    writer.write_folder(folder, writer.synthetic_config("tiny", words=200, examples=3, tokenizer=tokenizer))
    return folder


@pytest.fixture(scope="module")
def ctx(data, tokenizer):
    return EvalContext(data, tokenizer, (512,), trained_len=128)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_bytes_again(data, tokenizer, tmp_path):
    for seed, same in ((0, True), (1, False)):
        made = writer.synthetic_config("tiny", words=200, examples=3, tokenizer=tokenizer, seed=seed)
        writer.write_folder(tmp_path / str(seed), made)
        assert (content(tmp_path / str(seed)) == content(data)) == same
        assert content(tmp_path / str(seed)).keys() == content(data).keys()


def test_the_manifest_names_all_files(data):
    said = json.loads((data / "manifest.json").read_text())
    assert said["made_by"] == writer.MADE_BY
    assert "these are not the benchmarks" in said["note"]
    found = {name: hashlib.sha256(x).hexdigest() for name, x in content(data).items() if name != "manifest.json"}
    assert said["files"] == found


def test_nobody_elses_files_are_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for torn in (None, "{", "[]", '{"made_by": "me"}'):
        if torn is not None:
            (tmp_path / "manifest.json").write_text(torn)
        before = content(tmp_path)
        with pytest.raises(ValueError, match=r"--out=.* holds other files: name a new folder"):
            writer.write_folder(tmp_path, writer.synthetic_config("tiny"))
        assert content(tmp_path) == before


def test_made_again_otherwise(tokenizer, tmp_path):
    """What is no longer made goes, what others put there stays."""
    out = tmp_path / "data"
    writer.write_folder(out, writer.synthetic_config("tiny", tokenizer=tokenizer))
    assert (out / "perplexity" / "prose_tokens.bin").exists()
    (out / "ruler_cache").mkdir()
    (out / "ruler_cache" / "x").write_text("kept")
    writer.write_folder(out, writer.synthetic_config("tiny", seed=3))
    assert not (out / "perplexity" / "prose_tokens.bin").exists()
    assert (out / "ruler_cache" / "x").read_text() == "kept"
    assert not list(out.rglob("*.new"))


def test_killed_and_made_again(data, tmp_path):
    """SIGKILL while files are written: the same command goes on."""
    out = tmp_path / "made"
    words = [sys.executable, "-m", "tools.make_eval_data", f"--out={out}", "--size=tiny", "--words=200", "--examples=3"]
    words.append(f"--tokenizer={BASE}")
    for sign in ("haystack", "manifest.json.new"):
        process = subprocess.Popen(words, cwd=ROOT)
        while process.poll() is None and not (out / sign).exists():
            time.sleep(0.001)
        process.kill()
        process.wait()
    assert subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    assert content(out) == content(data)


def test_a_kill_just_before_the_end(data, tmp_path):
    """The old manifest is gone, the new one has not its name yet."""
    shutil.copytree(data, tmp_path / "made")
    (tmp_path / "made" / "manifest.json").rename(tmp_path / "made" / "manifest.json.new")
    writer.write_folder(tmp_path / "made", writer.synthetic_config("tiny"))
    assert not list((tmp_path / "made").rglob("*.new"))


def test_the_command_line(tmp_path):
    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "tools.make_eval_data", *words], capture_output=True, text=True, cwd=ROOT
        )
        return done.returncode, done.stdout + done.stderr

    assert run()[0] == 2
    assert run(f"--out={tmp_path}/x", "--size=huge")[0] == 2
    code, said = run(f"--out={tmp_path}/x", f"--tokenizer={tmp_path}")
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("error: there is no tokenizer")
    code, said = run(f"--out={tmp_path}/x", "--size=tiny")
    assert code == 0, said
    assert "not the benchmarks" in said


def test_every_class_of_trec_has_its_questions():
    assert [*NAMES] != [kind.label for kind in KINDS]  # another order
    assert {kind.label: kind.name for kind in KINDS} == NAMES


def test_text_is_read_by_people(data):
    text = (data / "haystack" / "essay_0.txt").read_text()
    sentences = text.replace("\n\n", " ").strip().split(". ")
    assert all(sentence[0].isupper() for sentence in sentences)
    assert len(set(sentences)) > 0.95 * len(sentences)
    assert text.isascii()


def row(task, ask):
    (found,) = [x for x in score(fake_model.records(task, ask)) if x["task"] != "position_nll"]
    return found


def told(question):
    """-> a right answer, which benchmarks call by several names."""
    about = question.metadata
    return about["answers"][0] if "answers" in about else about.get("key") or " ".join(about["references"])


ORACLE = fake_model.says(told)


@pytest.mark.parametrize("names", ["all", "e"])
def test_longbench(ctx, names):
    tasks = LongBench(names).tasks(ctx)
    assert len(tasks) == {"all": 21, "e": 13}[names]
    assert all(len(task.requests) == 3 for task in tasks)
    for task in tasks:
        if task.name.rpartition("/")[2] not in CHINESE or can_segment():
            assert row(task, ORACLE)["value"] == pytest.approx(1, abs=1e-7), task.name  # ROUGE adds 1e-8
            assert row(task, fake_model.uniform)["value"] == 0, task.name


def test_longbench_answers_are_in_the_text(data):
    """Of questions on texts; summaries, counts and code are not quotations."""
    for task in ("narrativeqa", "multifieldqa_en", "hotpotqa", "triviaqa", "multifieldqa_zh", "dureader", "trec"):
        for line in (data / "longbench" / "data" / f"{task}.jsonl").read_text("utf-8").splitlines():
            one = json.loads(line)
            assert one["answers"][0] in one["context"] + one["input"], task
            assert (one["dataset"], one["language"]) == (
                task,
                "zh" if task in ("multifieldqa_zh", "dureader") else "en",
            )


def test_longbench_e_has_several_lengths(data):
    for task in {name for name, kind in TASKS.items() if kind.even} - {"passage_retrieval_en"}:  # always 30 paragraphs
        lengths = [json.loads(x)["length"] for x in (data / f"longbench/data/{task}_e.jsonl").read_text().splitlines()]
        assert lengths == sorted(lengths), task
        assert lengths[-1] > 1.8 * lengths[0], task


def test_manyshot(ctx):
    for task in ManyShot("1,50,1000").tasks(ctx):
        assert row(task, ORACLE)["value"] == 1
        assert row(task, fake_model.uniform)["value"] == 0


def test_ruler(data, tokenizer, tmp_path):
    wanted = Ruler(ruler_samples=2, ruler_cache=str(tmp_path))
    tasks = wanted.tasks(EvalContext(data, tokenizer, (2048,)))
    assert len(tasks) == 13
    for task in tasks:
        assert row(task, ORACLE)["value"] == 1, task.name
        assert row(task, fake_model.uniform)["value"] == 0, task.name
        assert row(task, ORACLE)["fill"] > 0.95, task.name


@pytest.mark.parametrize("kind", ["sentence", "number"])
def test_needles(data, tokenizer, kind):
    (task,) = NeedleTest(kind).tasks(EvalContext(data, tokenizer, (1024,)))
    assert {x["value"] for x in score(fake_model.records(task, ORACLE))} == {1}
    assert {x["value"] for x in score(fake_model.records(task, fake_model.uniform))} == {0}
    assert {q.metadata["haystack"] for q in task.requests} == {"essay_0+7"}


@pytest.mark.parametrize("variant", ["self_extend", "yarn_hard", "study"])
def test_pass_keys(data, tokenizer, variant):
    """Those that read files."""
    (task,) = PasskeyTest(variant, passkey_samples=2).tasks(EvalContext(data, tokenizer, (1024,)))
    assert {x["value"] for x in score(fake_model.records(task, ORACLE))} == {1}
    assert {x["value"] for x in score(fake_model.records(task, fake_model.uniform))} == {0}


@pytest.mark.parametrize("protocol", ["strided", "lceg", "longlora", "yarn", "nonoverlap", "nested", "chunked"])
def test_perplexity(ctx, protocol):
    tasks = PerplexityTest(protocol).tasks(ctx)
    assert [task.name for task in tasks] == [f"perplexity/{protocol}/{name}/512" for name in ("prose", "prose_tokens")]
    for task in tasks:
        assert row(task, fake_model.says(told))["value"] == 1
        assert row(task, fake_model.uniform)["value"] == pytest.approx(fake_model.VOCAB)


def test_both_texts_are_the_same_tokens(ctx):
    """What is stored as tokens is what the text is made into, of which the study reads ten documents."""
    lines, tokens = PerplexityTest("lceg").tasks(ctx)
    assert [q.tokens_T.tolist() for q in lines.requests] == [q.tokens_T.tolist() for q in tokens.requests]


def test_short_tasks(ctx):
    found = offline.prepare_tasks(ctx, catalog.tasks_by_name("openllm,truthfulqa_mc1"), None)
    assert {one.task.name for one in found} == set(catalog.BY_NAME)
    assert all(len(one.rows) == 3 for one in found)
